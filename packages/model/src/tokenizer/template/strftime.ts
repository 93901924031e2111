import { TemplateFailure } from "./template-failure.ts";

const MONTHS = "January February March April May June July August September October November December".split(" ");
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/**
 * Python's strftime in the C locale, in UTC.
 *
 * @throws TemplateFailure for a directive that is not known here
 */
export function strftime(date: Date, format: string): string {
  const padded = (value: number, width = 2) => String(value).padStart(width, "0");
  const month = MONTHS[date.getUTCMonth()] as string;
  const day = DAYS[date.getUTCDay()] as string;
  const hours = date.getUTCHours();
  const startOfYear = Date.UTC(date.getUTCFullYear(), 0, 1);
  const directives: Readonly<Record<string, string>> = {
    Y: String(date.getUTCFullYear()),
    y: padded(date.getUTCFullYear() % 100),
    m: padded(date.getUTCMonth() + 1),
    d: padded(date.getUTCDate()),
    j: padded(1 + Math.floor((date.getTime() - startOfYear) / 86_400_000), 3),
    B: month,
    b: month.slice(0, 3),
    A: day,
    a: day.slice(0, 3),
    H: padded(hours),
    I: padded(hours % 12 || 12),
    p: hours < 12 ? "AM" : "PM",
    M: padded(date.getUTCMinutes()),
    S: padded(date.getUTCSeconds()),
    Z: "",
    z: "",
    "%": "%",
  };
  return format.replaceAll(/%(.?)/gsu, (text, directive: string) => {
    if (Object.hasOwn(directives, directive)) return directives[directive] as string;
    throw new TemplateFailure(`strftime_now with "${text}" is not supported`);
  });
}
