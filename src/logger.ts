// Logging: standard error, one line each, nothing per guest command above debug.
import { createLogger as winstonLogger, format, transports, type Logger as WinstonLogger } from 'winston';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';
export type LogFormat = 'text' | 'json';

/** What is written, and how. */
export interface LogOptions {
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

export type Logger = Pick<WinstonLogger, 'error' | 'warn' | 'info' | 'debug'>;

const textLine = format.printf(({ level, message, timestamp, ...fields }) => {
  const extra = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join('');
  return `${String(timestamp)} ${level.padEnd(5)} ${String(message)}${extra}`.replaceAll(/[\r\n]+/g, ' ');
});

/** A logger to standard error. */
export function createLogger({ logLevel, logFormat }: LogOptions): Logger {
  return winstonLogger({
    level: logLevel,
    format: format.combine(format.timestamp(), logFormat === 'json' ? format.json() : textLine),
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston declares its transports as constants
    transports: [new transports.Stream({ stream: process.stderr })],
  });
}
