// Where zones stand on the map: a ring, grouped by region, a function of names only. Pure.

export interface Point {
  x: number;
  y: number;
}

export const CARD = { width: 190, height: 86 };
/** From a line to the middle of its text. Twice as much sideways, where a text is long. */
const LABEL_GAP = 20;

/** Positions of card centres on a plane of the given size. The same names always stand in the same places. */
export function ring(zones: { name: string; region: string | null }[], size: { width: number; height: number }): Map<string, Point> {
  const order = [...zones].sort((a, b) => cmp(a.region ?? '', b.region ?? '') || cmp(a.name, b.name));
  const centre = { x: size.width / 2, y: size.height / 2 };
  if (order.length === 1) return new Map([[order[0]?.name ?? '', centre]]);
  const rx = size.width / 2 - CARD.width / 2 - 24;
  const ry = size.height / 2 - CARD.height / 2 - 24;
  // Two zones lie side by side; more start at the top.
  const start = order.length === 2 ? Math.PI : -Math.PI / 2;
  const points = order.map((_, i) => {
    const angle = start + (2 * Math.PI * i) / order.length;
    return { x: centre.x + rx * Math.cos(angle), y: centre.y + ry * Math.sin(angle) };
  });
  // An odd ring hangs high; move it so that the air above and below is equal.
  const heights = points.map((point) => point.y);
  const drop = centre.y - (Math.min(...heights) + Math.max(...heights)) / 2;
  return new Map(order.map((zone, i) => [zone.name, { x: points[i]?.x ?? 0, y: (points[i]?.y ?? 0) + drop }]));
}

/** The nearest zone in the direction of an arrow key, or null. */
export function neighbour(at: Map<string, Point>, from: string, key: string): string | null {
  const here = at.get(from);
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
  if (here === undefined || way === undefined) return null;
  const [wx = 0, wy = 0] = way;
  let best: string | null = null;
  let least = Infinity;
  for (const [name, point] of at) {
    const dx = point.x - here.x;
    const dy = point.y - here.y;
    const along = dx * wx + dy * wy;
    if (name === from || along <= 0) continue;
    const aside = Math.abs(dx * wy) + Math.abs(dy * wx);
    const cost = along + 2 * aside;
    if (cost < least) [best, least] = [name, cost];
  }
  return best;
}

export interface Curve {
  path: string;
  middle: Point;
  /** Where a text stands clear of both directions. */
  label: Point;
}

/** A bent line from card to card; the two directions of a pair bend to opposite sides. */
export function curve(a: Point, b: Point): Curve {
  const [from, to] = [edge(a, b), edge(b, a)];
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const bend = Math.min(70, length / 4);
  const control = { x: (from.x + to.x) / 2 - (dy / length) * bend, y: (from.y + to.y) / 2 + (dx / length) * bend };
  const middle = { x: (from.x + 2 * control.x + to.x) / 4, y: (from.y + 2 * control.y + to.y) / 4 };
  const label = { x: middle.x - (dy / length) * LABEL_GAP * 2.5, y: middle.y + (dx / length) * LABEL_GAP };
  const round = (n: number): number => Math.round(n * 10) / 10;
  return {
    path: `M${round(from.x)} ${round(from.y)}Q${round(control.x)} ${round(control.y)} ${round(to.x)} ${round(to.y)}`,
    middle,
    label,
  };
}

/** Where the line from `a` towards `b` leaves the card at `a`, with a little air. */
function edge(a: Point, b: Point): Point {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const scale = Math.min(
    (CARD.width / 2 + 8) / Math.max(1e-6, Math.abs(dx)),
    (CARD.height / 2 + 8) / Math.max(1e-6, Math.abs(dy)),
    1,
  );
  return { x: a.x + dx * scale, y: a.y + dy * scale };
}

function cmp(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
