// Throughput of one export as this page has seen it, drawn as two SVG paths.

const MOST = 60; // samples
const FEWEST = 3; // below that, a line would say nothing
const [WIDTH, HEIGHT] = [120, 28]; // as the viewBox

export class Sparkline {
  #samples = [];
  #last = null;

  constructor(svg) {
    this.svg = svg;
    [this.area, this.line] = svg.children;
  }

  /** Take note of how far *item* came, and draw. */
  add({ status, attempt, rows }) {
    const last = this.#last;
    this.#last = { status, attempt, rows, at: performance.now() };
    if (last?.attempt !== attempt) this.#samples = [];
    else if (status === "processing" && last.status === status) {
      // With the same rows, nothing new was measured.
      if (rows === last.rows) this.#last = last;
      else this.#samples.push((rows - last.rows) / (this.#last.at - last.at));
    } else return;
    this.#samples.splice(0, this.#samples.length - MOST);
    this.#draw();
  }

  #draw() {
    const samples = this.#samples;
    this.svg.classList.toggle("drawn", samples.length >= FEWEST);
    if (samples.length < FEWEST) return;
    const highest = Math.max(...samples);
    const step = WIDTH / (samples.length - 1);
    const points = samples.map((one, index) => {
      const y = HEIGHT - 1 - (one / highest) * (HEIGHT - 3);
      return `${(index * step).toFixed(1)} ${y.toFixed(1)}`;
    });
    const line = `M${points.join("L")}`;
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", `${line}V${HEIGHT}H0Z`);
  }
}
