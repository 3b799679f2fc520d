"""What both servers run on.

settings ▶ database (engine, transactions, the one writer) ▶ sets (set-based SQL) ▶ limits, logs, metrics
"""
