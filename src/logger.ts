// Logging: standard error, one line each, nothing per guest command above debug.
import { createLogger as winstonLogger, format, transports, type Logger as WinstonLogger } from 'winston';
import type { Config } from './config/config.js';

export type Logger = Pick<WinstonLogger, 'error' | 'warn' | 'info' | 'debug'>;

const textLine = format.printf(({ level, message, timestamp, ...fields }) => {
  const extra = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join('');
  return `${String(timestamp)} ${level.padEnd(5)} ${String(message)}${extra}`.replaceAll(/[\r\n]+/g, ' ');
});

/** A logger to standard error. */
export function createLogger({ logLevel, logFormat }: Pick<Config, 'logLevel' | 'logFormat'>): Logger {
  return winstonLogger({
    level: logLevel,
    format: format.combine(format.timestamp(), logFormat === 'json' ? format.json() : textLine),
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston declares its transports as constants
    transports: [new transports.Stream({ stream: process.stderr })],
  });
}
