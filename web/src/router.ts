// Paths to pages. Twelve pages are planned; a page is one line here and one file in pages/.

export interface Route {
  path: string;
  name: string;
  /** Letter after `g` that goes there. */
  key: string;
}

/** In the order of the navigation. */
export const ROUTES: readonly Route[] = [{ path: '/', name: 'Zones', key: 'z' }];

export function routeOf(path: string): Route | null {
  return ROUTES.find((route) => route.path === path) ?? null;
}

/** Query of the present page as an object; everything a page shows can be found again from it. */
export function query(): URLSearchParams {
  return new URLSearchParams(location.search);
}

/** Writes one value of the query without a new history entry; null removes it. */
export function setQuery(name: string, value: string | null): void {
  const next = query();
  if (value === null) next.delete(name);
  else next.set(name, value);
  const text = next.toString();
  history.replaceState(null, '', text === '' ? location.pathname : `${location.pathname}?${text}`);
}
