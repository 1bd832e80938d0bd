// One run, live: its description and its curves, then what the server sends while it trains.
//
// The curves are read whole at the start, with a mark of the place up to which the file was read; the stream begins
// there. A stream that comes back after a lost connection begins after the last row that arrived: no row is missing,
// none is drawn twice.

import {useEffect, useState} from "../vendor/htm-preact.js";
import {get, openStream} from "../app/api.js";
import {useRestored} from "../app/hooks.js";
import {Redraw} from "../app/redraw.js";
import {addRows} from "./run_rows.js";

const POINTS = 800;
const EMPTY = {run: null, curves: null, error: null};

export function useRun(id, lang) {
  const [state, setState] = useState(EMPTY);
  const [round, setRound] = useState(0);
  useEffect(() => openFeed(id, lang, setState), [id, lang, round]);
  // A stream finds its way back by itself; a run that could not be read at all is read again.
  useRestored(() => state.error && setRound((n) => n + 1));
  return {...state, reload: () => setRound((n) => n + 1)};
}

function openFeed(id, lang, publish) {
  const feed = new Feed(id, lang, publish);
  const follow = () => (document.hidden ? feed.pause() : feed.restart());
  feed.restart();
  // A browser keeps six connections to a server: a tab that nobody looks at gives its own back.
  document.addEventListener("visibilitychange", follow);
  return () => {
    document.removeEventListener("visibilitychange", follow);
    feed.close();
  };
}

class Feed {
  constructor(id, lang, publish) {
    this.path = `/api/runs/${encodeURIComponent(id)}`;
    this.lang = lang;
    this.state = EMPTY;
    this.after = "";
    this.redraw = new Redraw(() => publish(this.state));
    this.round = 0;
    this.closeStream = () => {};
  }

  // Reads everything, then follows. Only the newest reading counts.
  async restart() {
    this.pause();
    const round = this.round;
    try {
      const [run, curves] = await Promise.all([
        get(this.path, {lang: this.lang}), get(`${this.path}/metrics?points=${POINTS}`),
      ]);
      if (round !== this.round) return;
      this.after = curves.after;
      this.change({run, curves, error: null});
      this.closeStream = openStream(
        () => `${this.path}/events?after=${this.after}&points=${POINTS}&lang=${this.lang}`, this.listHandlers(),
      );
    } catch (error) {
      if (round === this.round) this.change({error});
    }
  }

  listHandlers() {
    return {
      rows: ({rows, after}) => {
        this.after = after;
        this.grow({curves: addRows(this.state.curves, rows)});
      },
      // The file is another one, as after a resume, or much is new: the whole curves, with few points.
      reset: (curves) => {
        this.after = curves.after;
        this.grow({curves});
      },
      status: (status) => {
        const before = this.state.run;
        this.grow({run: {...before, ...status}});
        if (before.state !== status.state) this.redraw.soon();
        // What a run leaves behind at its end: the diagnosis, the last samples, a checkpoint to go on from.
        if (before.live && !status.live) this.restart();
      },
      findings: ({findings}) => this.change({run: {...this.state.run, findings}}),
      // The folder is gone, or the server cannot read it: asking again would not help.
      error: ({error}) => {
        this.pause();
        this.change({error: {message: error}});
      },
      samples: ({samples}) => this.change({run: {...this.state.run, samples}}),
    };
  }

  // What a person waits for is drawn at once; the steps of a run come all the time.
  change(part) {
    this.state = {...this.state, ...part};
    this.redraw.soon();
  }

  grow(part) {
    this.state = {...this.state, ...part};
    this.redraw.later();
  }

  pause() {
    this.round += 1;
    this.closeStream();
    this.closeStream = () => {};
  }

  close() {
    this.pause();
    this.redraw.cancel();
  }
}
