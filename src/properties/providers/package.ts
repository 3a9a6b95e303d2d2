// Providers of npm packages: each package in a thread of its own, asked one thing at a time, with a time limit.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { isAbsolute } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Measurement, PropertyProvider, ProviderContext, Translation } from './provider.js';
import { reasonOf } from '../../failure.js';
import type { ExtendRequest, PlainMeasurement, ThreadAnswer, ThreadData, ThreadRequest } from './messages.js';

/** Milliseconds that a provider may take for one extend, unless told otherwise. */
const DEFAULT_TIME_LIMIT = 50;
/** Milliseconds that a package may take to load. */
const START_LIMIT = 5_000;
/** Bytes that a provider's state may have. */
const MAX_PROVIDER_STATE = 65_536;
/** Memory of a package's thread, in MiB. */
const MEMORY_LIMIT = 128;

export interface PackageOptions {
  /** Name of an npm package beside tpmux, or the absolute path of a module. */
  readonly module: string;
  /** In milliseconds. */
  readonly timeLimit?: number | undefined;
}

/** A request and who waits for it. */
interface Job {
  readonly measurement: Measurement;
  readonly instance: PackageInstance;
  readonly resolve: (translation: Translation) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly ready: Promise<void>;
  /** Instances that exist in it. */
  readonly known: Set<number>;
}

/** A provider took too long, or ended its thread: it is not asked again for this guest before its next reset. */
class ProviderStopped extends Error {
  override readonly name = 'ProviderStopped';
}

/** One package, for all guests. */
export class ProviderPackage {
  private readonly module: string;
  private readonly timeLimit: number;
  private readonly queue: Job[] = [];
  private thread: Thread | undefined;
  private working = false;
  private closed = false;
  private count = 0;
  private requests = 0;

  constructor({ module, timeLimit }: PackageOptions) {
    this.module = isAbsolute(module) ? pathToFileURL(module).href : module;
    this.timeLimit = timeLimit ?? DEFAULT_TIME_LIMIT;
  }

  /** Loads the package. Rejects if it cannot be loaded, or is not for this version of the interface. */
  async open(): Promise<void> {
    await this.running().ready;
  }

  /** The provider of one guest; nothing of the package runs before its first extend. */
  instance(context: ProviderContext, state?: Uint8Array): PropertyProvider & { close(): void } {
    return new PackageInstance(this, ++this.count, context, state?.length === 0 ? undefined : state);
  }

  /** Ends the thread; what waits is rejected. */
  async close(): Promise<void> {
    this.closed = true;
    await this.thread?.worker.terminate();
  }

  /** Asks the package. Rejects with {@link ProviderStopped}, or with an Error if the provider threw. */
  ask(instance: PackageInstance, measurement: Measurement): Promise<Translation> {
    return new Promise((resolve, reject) => {
      this.queue.push({ instance, measurement, resolve, reject });
      if (!this.working) void this.work();
    });
  }

  forget(instance: PackageInstance): void {
    if (this.thread?.known.delete(instance.number) === true) this.post(this.thread, { kind: 'forget', instance: instance.number });
  }

  private async work(): Promise<void> {
    this.working = true;
    for (let job = this.queue.shift(); job !== undefined; job = this.queue.shift()) {
      try {
        if (this.closed) throw new ProviderStopped('the daemon is shutting down');
        job.resolve(await this.run(job));
      } catch (error) {
        job.reject(error instanceof Error ? error : new Error(String(error)));
      }
    }
    this.working = false;
  }

  private async run({ instance, measurement }: Job): Promise<Translation> {
    const thread = this.running();
    await thread.ready.catch((error: unknown) => {
      throw new ProviderStopped(`it could not be loaded: ${reasonOf(error)}`);
    });
    const request: ExtendRequest = {
      kind: 'extend',
      number: ++this.requests,
      instance: instance.number,
      make: thread.known.has(instance.number) ? undefined : { context: instance.context, state: ownBytes(instance.state) },
      measurement: plain(measurement),
    };
    thread.known.add(instance.number);
    const answer = await this.exchange(thread, request);
    if (answer.kind !== 'translated') throw new Error(answer.kind === 'failed' ? answer.why : 'it gave no answer');
    if (answer.state !== undefined) {
      const { state } = answer;
      if (!(state instanceof Uint8Array) || state.length > MAX_PROVIDER_STATE) throw new Error('its state is no bytes, or too many');
      instance.state = Buffer.from(state);
    }
    return answer.translation;
  }

  private exchange(thread: Thread, request: ExtendRequest): Promise<ThreadAnswer> {
    return new Promise((resolve, reject) => {
      const { worker } = thread;
      const done = (finish: () => void): void => {
        clearTimeout(timer);
        worker.off('message', onMessage).off('exit', onExit);
        finish();
      };
      const onMessage = (answer: ThreadAnswer): void => {
        if (!('number' in answer) || answer.number !== request.number) return;
        done(() => {
          resolve(answer);
        });
      };
      const onExit = (): void => {
        done(() => {
          reject(new ProviderStopped('its thread ended'));
        });
      };
      const stop = (): void => {
        done(() => {
          this.end(thread);
          reject(new ProviderStopped(`it took more than ${this.timeLimit.toString()} ms`));
        });
      };
      let timer = setTimeout(() => {
        // An answer that came while the daemon itself was busy is still in time: it is delivered before this second look.
        timer = setTimeout(stop, 1);
      }, this.timeLimit);
      worker.on('message', onMessage).on('exit', onExit);
      this.post(thread, request);
    });
  }

  private post({ worker }: Thread, request: ThreadRequest): void {
    worker.postMessage(request);
  }

  private end(thread: Thread): void {
    if (this.thread === thread) this.thread = undefined;
    void thread.worker.terminate();
  }

  /** The thread that runs; a new one if there is none. */
  private running(): Thread {
    if (this.thread !== undefined) return this.thread;
    const worker = startWorker({ module: this.module });
    const thread: Thread = { worker, known: new Set(), ready: started(worker) };
    thread.ready.catch(() => {
      this.end(thread);
    });
    worker.on('exit', () => {
      if (this.thread === thread) this.thread = undefined;
    });
    // What goes wrong is seen where an answer is awaited.
    worker.on('error', () => undefined);
    worker.unref();
    this.thread = thread;
    return thread;
  }
}

function startWorker(data: ThreadData): Worker {
  const options = { workerData: data, env: {}, execArgv: [], resourceLimits: { maxOldGenerationSizeMb: MEMORY_LIMIT } };
  if (import.meta.url.endsWith('.js')) return new Worker(new URL('./thread.js', import.meta.url), options);
  // Run from sources, a thread must load what translates them before anything else.
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx/package.json'));
  const translator = JSON.stringify(new URL('./dist/esm/api/index.mjs', tsx).href);
  const thread = JSON.stringify(new URL('./thread.ts', import.meta.url).href);
  return new Worker(`import(${translator}).then(({ register }) => (register(), import(${thread})))`, { ...options, eval: true });
}

/** A buffer may be part of a larger one, all of which would go to the thread. */
function ownBytes<T extends Uint8Array | undefined>(bytes: T): T {
  return (bytes === undefined ? undefined : new Uint8Array(bytes)) as T;
}

function plain({ index, locality, digests, eventData }: Measurement): PlainMeasurement {
  return {
    index,
    locality,
    digests: digests.map(({ bank, digest }) => ({ bank, digest: ownBytes<Uint8Array>(digest) })),
    eventData: ownBytes<Uint8Array | undefined>(eventData),
  };
}

function started(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new ProviderStopped('it took too long to load'));
    }, START_LIMIT);
    worker.once('message', (answer: ThreadAnswer) => {
      clearTimeout(timer);
      if (answer.kind === 'ready') resolve();
      else reject(new Error(answer.kind === 'unusable' ? answer.why : 'it could not be loaded'));
    });
    worker.once('error', (error: Error) => {
      clearTimeout(timer);
      reject(error);
    });
    worker.once('exit', () => {
      clearTimeout(timer);
      reject(new ProviderStopped('its thread ended'));
    });
  });
}

/** One guest's provider in a package, between two resets of the guest. */
class PackageInstance implements PropertyProvider {
  private stopped: Error | undefined;

  constructor(
    private readonly owner: ProviderPackage,
    readonly number: number,
    readonly context: ProviderContext,
    /** What the provider saved after its last extend. */
    public state: Uint8Array | undefined,
  ) {}

  async extend(measurement: Measurement): Promise<Translation> {
    if (this.stopped !== undefined) throw this.stopped;
    try {
      return await this.owner.ask(this, measurement);
    } catch (error) {
      if (error instanceof ProviderStopped) this.stopped = error;
      throw error;
    }
  }

  save(): Uint8Array {
    return this.state ?? new Uint8Array(0);
  }

  close(): void {
    this.owner.forget(this);
  }
}
