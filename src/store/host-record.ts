// Host-level records that are JSON of a shape that is known.
import * as v from 'valibot';
import { describeIssue } from '../config/describe-issue.js';
import { StoreError } from './store-error.js';

/**
 * The host record `name`; undefined if there is none. Throws a {@link StoreError} that names the record if it is not what `schema` says.
 */
export function readHostRecord<N extends string, S extends v.GenericSchema>(
  store: { readonly directory: string; hostRecord(name: N): Buffer | undefined },
  name: N,
  schema: S,
): v.InferOutput<S> | undefined {
  const record = store.hostRecord(name);
  if (record === undefined) return undefined;
  const result = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), record.toString('utf8'));
  if (result.success) return result.output;
  throw new StoreError(
    `reading the store ${store.directory}`,
    `host record '${name}' is damaged: ${describeIssue(result.issues)}`,
    'restore the state directory from a backup',
    { record: name },
  );
}

/** Writes the host record `name`; resolves when it is durable. Rejects with a {@link StoreError}. */
export function writeHostRecord<N extends string>(
  store: { putHostRecords(changes: ReadonlyMap<N, Buffer>): Promise<void> },
  name: N,
  value: unknown,
): Promise<void> {
  return store.putHostRecords(new Map([[name, Buffer.from(JSON.stringify(value), 'utf8')]]));
}
