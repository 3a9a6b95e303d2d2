// What the tools of a script complained about. Many scripts provoke errors, and some (in a pipeline, say) miss one that they did not mean.
import { readFile } from 'node:fs/promises';

const COMPLAINT = /(?:ERROR:|Esys_\w+\(|Fapi_\w+\().*/g;
const SCRATCH = /\/tmp\/\S+/g;

/** The messages in a script's output, in order, without what differs from run to run. */
export async function toolErrors(log: string): Promise<string[]> {
  const text = await readFile(log, 'latin1');
  return [...text.matchAll(COMPLAINT)].map(([message]) => message.replace(SCRATCH, 'PATH').trimEnd());
}

/** What one list has more often than the other. */
export function difference(left: readonly string[], right: readonly string[]): string[] {
  const rest = [...right];
  return left.filter((message) => {
    const found = rest.indexOf(message);
    if (found >= 0) rest.splice(found, 1);
    return found < 0;
  });
}
