// Numbers and times as people read them. Pure.

/** `2.4k/s`, `310/s`, `0.5/s`, `0/s`. */
export function rate(perSecond: number): string {
  if (perSecond >= 10_000) return `${Math.round(perSecond / 1000)}k/s`;
  if (perSecond >= 1_000) return `${(perSecond / 1000).toFixed(1)}k/s`;
  if (perSecond >= 10 || perSecond === 0) return `${Math.round(perSecond)}/s`;
  return `${perSecond.toFixed(1)}/s`;
}

/** `95%`; null is `–`. Never rounds up to 100 or down to 0. */
export function share(ratio: number | null): string {
  if (ratio === null) return '–';
  const percent = ratio * 100;
  if (percent > 99 && percent < 100) return `${(Math.floor(percent * 10) / 10).toFixed(1)}%`;
  if (percent > 0 && percent < 1) return `${(Math.ceil(percent * 10) / 10).toFixed(1)}%`;
  return `${Math.round(percent)}%`;
}

/** `now`, `41 s`, `7 m`, `3 h`, `2 d`. */
export function age(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  if (seconds < 1) return 'now';
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function millis(ms: number | null): string {
  if (ms === null) return '–';
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

export const absolute = (ms: number): string => new Date(ms).toISOString().replace('T', ' ').replace(/\.\d+Z/, ' UTC');
