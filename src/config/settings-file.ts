// Files of settings: YAML, of which JSON is a part, checked against a schema.
import * as v from 'valibot';
import { parse, YAMLParseError } from 'yaml';
import { EXIT, Failure } from '../failure.js';

/** What an error about a file of settings says. */
export interface SettingsFile {
  /** Stable machine code of the error. */
  readonly code: string;
  /** What is done, with the file's path, e.g. `reading the policy web.yaml`. */
  readonly what: string;
  readonly hint: string;
}

/** An error about such a file; exit code 2. */
export function settingsFailure({ code, what, hint }: SettingsFile, why: string): Failure {
  return new Failure({ code, what, why, hint, exit: EXIT.usage });
}

/** Reads settings; an empty file has none. Throws a {@link Failure} that names file, place in it and what was expected. */
export function parseSettings<S extends v.GenericSchema>(schema: S, file: SettingsFile, content: string): v.InferOutput<S> {
  const value = readYaml(file, content) ?? {};
  if (Array.isArray(value)) throw settingsFailure(file, 'the file: Expected settings by name but received a list');
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const place = v.getDotPath(issue) ?? 'the file';
  throw settingsFailure(file, `${place}: ${complaint(issue)}`);
}

function complaint({ type, expected, message }: v.BaseIssue<unknown>): string {
  // What valibot says of names that are too many or missing is about its own schemas.
  if (type !== 'strict_object' || expected === 'Object') return message;
  return expected === 'never' ? 'there is no such setting' : 'it is missing';
}

function readYaml(file: SettingsFile, content: string): unknown {
  try {
    return parse(content, { prettyErrors: true });
  } catch (error) {
    if (error instanceof YAMLParseError) {
      const line = error.linePos?.[0].line.toString() ?? '?';
      throw settingsFailure({ ...file, hint: 'correct the file' }, `line ${line} is not YAML: ${error.message.split('\n')[0] ?? ''}`);
    }
    // Aliases without an anchor, or too many of them.
    if (error instanceof ReferenceError) throw settingsFailure({ ...file, hint: 'correct the file' }, error.message);
    throw error;
  }
}
