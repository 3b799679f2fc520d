// What this browser keeps: purchases, and the connection to a wallet. IndexedDB, or memory where that is refused.

import type { Purchase, State } from './purchase';

const NAME = 'pennypost';
const PURCHASES = 'purchases';
const SETTINGS = 'settings';
const RANK: Record<State, number> = { new: 0, open: 1, paid: 2, lost: 3, done: 4 };

export class Shelf {
  private readonly memory = new Map<string, Purchase>();

  private constructor(private database: IDBDatabase | undefined) {}

  /** Never fails: where the browser refuses, `durable` is false. */
  static async open(): Promise<Shelf> {
    try {
      return new Shelf(await opened());
    } catch {
      return new Shelf(undefined);
    }
  }

  /** Whether what is put here is still there after the page is closed. */
  get durable(): boolean {
    return this.database !== undefined;
  }

  /** Keeps a purchase. One that is further on in another tab is not set back: the answer is what is kept. */
  async put(purchase: Purchase): Promise<Purchase> {
    const merge = (before: Purchase | undefined): Purchase =>
      before && RANK[before.state] > RANK[purchase.state] ? { ...purchase, ...before } : { ...before, ...purchase };
    const kept = merge(this.memory.get(purchase.secret));
    this.memory.set(kept.secret, kept);
    return this.within(PURCHASES, 'readwrite', kept, async (store) => {
      const merged = merge((await asked(store.get(purchase.secret))) as Purchase | undefined);
      store.put(merged);
      this.memory.set(merged.secret, merged);
      return merged;
    });
  }

  async get(secret: string): Promise<Purchase | undefined> {
    const known = this.memory.get(secret);
    return this.within(PURCHASES, 'readonly', known, async (store) => {
      return ((await asked(store.get(secret))) as Purchase | undefined) ?? known;
    });
  }

  /** All purchases, the newest first. */
  async all(): Promise<Purchase[]> {
    const found = await this.within(PURCHASES, 'readonly', [...this.memory.values()], async (store) => {
      return (await asked(store.getAll())) as Purchase[];
    });
    return found.sort((a, b) => b.created - a.created);
  }

  async forget(secret: string): Promise<void> {
    this.memory.delete(secret);
    await this.within(PURCHASES, 'readwrite', undefined, async (store) => void store.delete(secret));
  }

  async setting(name: string): Promise<string | undefined> {
    return this.within(SETTINGS, 'readonly', undefined, async (store) => (await asked(store.get(name))) as string | undefined);
  }

  /** Keeps a text, or with undefined forgets it. */
  async set(name: string, value: string | undefined): Promise<void> {
    await this.within(SETTINGS, 'readwrite', undefined, async (store) => {
      if (value === undefined) store.delete(name);
      else store.put(value, name);
    });
  }

  /** One transaction, on disk when it ends; `otherwise` where the browser refuses. */
  private async within<T>(
    name: string,
    mode: IDBTransactionMode,
    otherwise: T,
    work: (store: IDBObjectStore) => Promise<T>,
  ): Promise<T> {
    if (!this.database) return otherwise;
    try {
      const transaction = this.database.transaction(name, mode, { durability: 'strict' });
      const ended = new Promise<void>((done, failed) => {
        transaction.oncomplete = () => done();
        transaction.onabort = transaction.onerror = () => failed(transaction.error);
      });
      const [result] = await Promise.all([work(transaction.objectStore(name)), ended]);
      return result;
    } catch {
      // a full disk, a quota, a database that the browser threw away: from now on nothing is kept, and the page says so
      this.database = undefined;
      return otherwise;
    }
  }
}

function opened(): Promise<IDBDatabase> {
  return new Promise((done, failed) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(PURCHASES, { keyPath: 'secret' });
      request.result.createObjectStore(SETTINGS);
    };
    request.onsuccess = () => {
      request.result.onversionchange = () => request.result.close();
      done(request.result);
    };
    request.onerror = request.onblocked = () => failed(request.error);
  });
}

function asked<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
}
