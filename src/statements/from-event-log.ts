// Statements about what a known-good machine measured.
import { hashName } from '../tpm/hash.js';
import { EVENT_TYPE, eventTypeName, type TcgEvent, type TcgEventLog } from './event-log.js';
import type { Properties } from './properties.js';
import { MAX_SUBJECTS, type DigestSet, type Subject } from './statement.js';

/** What one statement is to say. */
export interface MeasuredGroup {
  readonly subjects: readonly Subject[];
  readonly properties: Properties;
}

/** What is taken of a log. */
export interface LogSelection {
  /** Only these PCRs; default all. */
  readonly pcrs?: ReadonlySet<number> | undefined;
  /** Only events of these types, by name; default all. */
  readonly types?: ReadonlySet<string> | undefined;
  /** Leave out the properties that tell PCR and type of event. */
  readonly plain?: boolean | undefined;
}

/**
 * Groups what a machine measured by PCR and type of event, each with `properties` and two more, `tpm.pcr` and `tpm.event`: without
 * these a measurement of one kind could stand for one of another. Equal digests of a group become one subject. Groups have at most
 * {@link MAX_SUBJECTS} subjects.
 */
export function groupMeasurements(
  { events }: TcgEventLog,
  properties: Properties,
  { pcrs, types, plain }: LogSelection = {},
): MeasuredGroup[] {
  const groups = new Map<string, { properties: Properties; subjects: Map<string, Subject> }>();
  for (const event of events) {
    if (event.type === EVENT_TYPE.EV_NO_ACTION || event.digests.length === 0 || pcrs?.has(event.pcr) === false) continue;
    const type = eventTypeName(event.type);
    if (types?.has(type) === false) continue;
    const key = plain === true ? '' : `${event.pcr.toString()} ${type}`;
    const own = plain === true ? {} : { 'tpm.pcr': event.pcr, 'tpm.event': type };
    const group = groups.get(key) ?? { properties: { ...properties, ...own }, subjects: new Map<string, Subject>() };
    groups.set(key, group);
    const digest = digestSetOf(event);
    const name = Object.values(digest).join();
    if (!group.subjects.has(name)) group.subjects.set(name, { name: `pcr${event.pcr.toString()} ${type}`, digest });
  }
  return [...groups.values()].flatMap((group) => {
    const subjects = [...group.subjects.values()];
    const parts = Math.ceil(subjects.length / MAX_SUBJECTS);
    return Array.from({ length: parts }, (_, part) => ({
      properties: group.properties,
      subjects: subjects.slice(part * MAX_SUBJECTS, (part + 1) * MAX_SUBJECTS),
    }));
  });
}

function digestSetOf({ digests }: TcgEvent): DigestSet {
  return Object.fromEntries(digests.map(({ bank, digest }) => [hashName(bank), digest.toString('hex')]));
}
