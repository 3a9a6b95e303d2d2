// Files of settings: YAML, of which JSON is a part, checked against a schema.
import * as v from 'valibot';
import { parse, YAMLParseError } from 'yaml';
import { EXIT, Failure } from '../failure.js';
import { expectation, isUnknown, placeOf } from './describe-issue.js';

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
  if (Array.isArray(value)) throw settingsFailure(file, 'the file: Expected settings by name, not a list');
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw settingsFailure(file, `${placeOf(issue) ?? 'the file'}: ${isUnknown(issue) ? 'there is no such setting' : expectation(issue)}`);
}

/** The value of a YAML text. Throws a {@link Failure} that names the line, and repeats nothing of the text. */
export function readYaml(file: SettingsFile, content: string): unknown {
  try {
    return parse(content, { prettyErrors: true });
  } catch (error) {
    if (error instanceof YAMLParseError) {
      const line = error.linePos?.[0].line.toString() ?? '?';
      // The library's message has a part of the text in it.
      throw settingsFailure(
        { ...file, hint: 'correct the file' },
        `line ${line} is not YAML: ${error.code.toLowerCase().replaceAll('_', ' ')}`,
      );
    }
    // Aliases without an anchor, or too many of them.
    if (error instanceof ReferenceError)
      throw settingsFailure({ ...file, hint: 'correct the file' }, 'it has an alias without an anchor, or too many aliases');
    throw error;
  }
}
