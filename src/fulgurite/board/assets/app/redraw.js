// When a live page is drawn again: in the next frame, or at a pace at which drawing takes a small part of the time.
//
// A page beside a run shares the processor with it. The pace follows what drawing takes here and now: a chart that
// costs 20 ms is drawn every two seconds, on a machine that is busy less often.

const SHARE = 0.01;
const LEAST = 1000;
const MOST = 10_000;

export class Redraw {
  // `draw` may return a promise, such as that of an answer of the server, which is drawn when it comes.
  constructor(draw, most = MOST) {
    this.draw = draw;
    this.most = most;
    this.frame = 0;
    this.timer = 0;
    this.due = 0;
  }

  // A burst of changes becomes one drawing in the next frame.
  soon() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.frame ||= requestAnimationFrame(() => this.run());
  }

  later() {
    if (this.frame || this.timer) return;
    const wait = this.due - performance.now();
    if (wait <= 0) this.soon();
    else this.timer = setTimeout(() => this.lookAgain(), wait);
  }

  // What the last drawing took may have become known since the timer was set.
  lookAgain() {
    this.timer = 0;
    this.later();
  }

  async run() {
    this.frame = 0;
    const begin = performance.now();
    this.due = begin + LEAST;
    await this.draw();
    // a timer runs after the frame has been laid out and painted
    setTimeout(() => {
      const cost = performance.now() - begin;
      this.due = begin + Math.min(this.most, Math.max(LEAST, cost / SHARE));
    });
  }

  cancel() {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    this.timer = 0;
    this.frame = 0;
  }
}
