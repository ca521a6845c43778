import { EventEmitter } from 'events';

interface Item {
  readonly id: number;
  name?: string;
}

export class Store<T extends Item> extends EventEmitter {
  private items: Map<number, T> = new Map();

  public add(item: T): void {
    this.items.set(item.id, item);
    this.emit('added', item);
  }

  public find(id: number): T | undefined {
    return this.items.get(id);
  }
}

export type Names = Record<string, Item['name']>;
