// Values as people read them.

import type { Attributes, Item } from "./api";

export const titleOf = ({ id, payload }: Item): string => payload.title || String(id);

/** Stable for a title: up to two initials and a hue, in degrees. */
export function tileOf(title: string): { initials: string; hue: number } {
  const words = title.match(/[\p{L}\p{N}]+/gu) ?? [];
  const telling = words.filter((word) => !/^(the|a|an|of|and|no|de|la)$/i.test(word));
  const initials = (telling.length ? telling : words).slice(0, 2).map((word) => [...word][0] ?? "");
  let hash = 2166136261; // FNV-1a
  for (const character of title) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16777619);
  return { initials: initials.join("").toUpperCase() || "?", hue: (hash >>> 0) % 360 };
}

/** What a card says of an item in a line, the most telling first: values with few others, years, then numbers. */
export function factsOf({ payload }: Item, about: Attributes | undefined, most = 4): string[] {
  const ranked: [number, string][] = [];
  for (const { name, type, present, distinct } of about?.attributes ?? []) {
    const value = payload[name];
    if (name === "title" || name === about?.image || value === undefined) continue;
    if (typeof value === "number") {
      const year = /year/i.test(name) && type === "int64";
      ranked.push(year ? [0, String(value)] : [3, `${wordsOf(name)} ${formatNumber(value)}`]);
    } else if (typeof value === "string" && value.length <= 40 && distinct <= present / 2) {
      ranked.push([distinct <= 12 ? 1 : 2, value]);
    }
  }
  return ranked
    .sort(([a], [b]) => a - b)
    .slice(0, most)
    .map(([, text]) => text);
}

/** The values of an item's lists. */
export function tagsOf({ payload }: Item): string[] {
  const lists = Object.values(payload).filter(Array.isArray).flat();
  return [...new Set(lists.filter((each): each is string => typeof each === "string" && each !== ""))];
}

/** The address of an item's picture, if it is one that can be shown. */
export function imageOf({ payload }: Item, column: string | null | undefined): string | undefined {
  const value = column ? payload[column] : undefined;
  return typeof value === "string" && /^(https?:\/\/|\.?\/(?![/\\])|data:image\/)/.test(value) ? value : undefined;
}

/** An attribute's name in words. */
export const wordsOf = (attribute: string): string => attribute.replace(/[_-]+/g, " ");

/** Whether a number is too small for a few decimals. */
const isTiny = (value: number): boolean => value !== 0 && Math.abs(value) < 0.01;

export const formatNumber = (value: number): string =>
  isTiny(value) ? value.toPrecision(2) : value.toLocaleString("en", { maximumFractionDigits: 2 });

export const formatScore = (score: number): string =>
  isTiny(score) ? score.toPrecision(3) : Math.abs(score) < 100 ? score.toFixed(3) : score.toPrecision(4);

export const formatMs = (ms: number): string => `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`;

export function formatBytes(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toFixed(power && bytes / 1000 ** power < 10 ? 1 : 0)} ${units[power]}`;
}

/** How long ago, in the largest unit that fits. */
export function formatAge(created: string, now: number): string {
  const seconds = Math.max(0, (now - Date.parse(created)) / 1000);
  for (const [unit, length] of Object.entries({ day: 86400, hour: 3600, minute: 60 })) {
    const count = Math.floor(seconds / length);
    if (count) return `${count} ${unit}${count > 1 ? "s" : ""}`;
  }
  return `${Math.floor(seconds)} s`;
}

export const count = (number: number, noun: string): string =>
  `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
