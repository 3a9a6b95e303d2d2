// The thread that a provider package runs in. Its provider can neither block nor end the daemon.
import { parentPort, workerData } from 'node:worker_threads';
import { PROVIDER_API_VERSION, type PropertyProvider, type ProviderModule } from './provider.js';
import type { ExtendRequest, PlainMeasurement, ThreadAnswer, ThreadData, ThreadRequest } from './messages.js';

const port = parentPort;
const instances = new Map<number, PropertyProvider>();

const say = (answer: ThreadAnswer): void => port?.postMessage(answer);
const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error)).slice(0, 500);

async function load(): Promise<ProviderModule> {
  const { module } = workerData as ThreadData;
  const { default: found } = (await import(module)) as { default?: Partial<ProviderModule> };
  if (typeof found?.create !== 'function') throw new Error("its default export has no function 'create'");
  if (found.apiVersion !== PROVIDER_API_VERSION) {
    const version = String(found.apiVersion);
    throw new Error(`it is written for version ${version} of the interface; this tpmux has version ${PROVIDER_API_VERSION.toString()}`);
  }
  return found as ProviderModule;
}

async function extend(module: ProviderModule, { number, instance, make, measurement }: ExtendRequest): Promise<ThreadAnswer> {
  try {
    let provider = instances.get(instance);
    if (provider === undefined) {
      if (make === undefined) throw new Error('the provider was not made');
      provider = await module.create(make.context, make.state);
      instances.set(instance, provider);
    }
    const translation = await provider.extend(asMeasurement(measurement));
    const state = provider.save?.();
    return { kind: 'translated', number, translation, state };
  } catch (error) {
    return { kind: 'failed', number, why: reason(error) };
  }
}

function asMeasurement({ index, locality, digests, eventData }: PlainMeasurement): Parameters<PropertyProvider['extend']>[0] {
  return {
    index,
    locality,
    digests: digests.map(({ bank, digest }) => ({ bank, digest: Buffer.from(digest) })),
    eventData: eventData === undefined ? undefined : Buffer.from(eventData),
  };
}

try {
  const module = await load();
  port?.on('message', (request: ThreadRequest) => {
    if (request.kind === 'forget') {
      instances.delete(request.instance);
      return;
    }
    void extend(module, request).then((answer) => {
      try {
        say(answer);
      } catch (error) {
        say({ kind: 'failed', number: request.number, why: reason(error) });
      }
    });
  });
  say({ kind: 'ready' });
} catch (error) {
  say({ kind: 'unusable', why: reason(error) });
}
