// Requests to the HTTP API, and jobs with their progress.

const LOST = 'The server does not answer. Is `dasr serve` still running?';
const PHASES = {
  waiting: 'Waiting', reading: 'Reading the image', encoding: 'Estimating the degradation', upscaling: 'Upscaling',
  writing: 'Writing the file', mapping: 'Drawing the map',
};

const RETRIES = 40;
const RETRY_PAUSE = 1500;  // milliseconds

/** An error with a message for the user; a passing one may not occur again. */
export class Failure extends Error {
  constructor(message, passing = false) { super(message); this.passing = passing; }
}

/** Sends a request; returns the response, or throws a Failure with the message of the server. */
export async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Failure(LOST, true);
  }
  if (response.ok) return response;
  let text = `The server answered ${response.status}.`;
  try { text = (await response.json()).detail || text; } catch { /* not JSON */ }
  const wait = response.headers.get('Retry-After');
  const passing = [502, 503, 504].includes(response.status);
  throw new Failure(wait ? `${text}. Try again in ${wait} seconds.` : sentence(text), passing);
}

export const getJson = async (address) => (await ask(address)).json();

/** Starts a job, shows its progress and returns its last status, or null if cancelled; throws a Failure if it failed. */
export class JobRun {
  constructor(box) {
    this.box = box;
    this.bar = box.querySelector('.bar');
    this.button = box.querySelector('button');
    this.button.addEventListener('click', () => this.cancel());
    addEventListener('pagehide', () => {
      if (this.id) fetch(`api/v1/jobs/${this.id}`, { method: 'DELETE', keepalive: true });
    });
  }

  get active() { return Boolean(this.abort); }

  async run(address, form) {
    this.abort = new AbortController();
    this.id = null;
    this.box.hidden = false;
    this.show({ state: 'queued', phase: 'waiting', progress: 0, seconds_left: null, ahead: 0 }, 'Sending');
    try {
      let status = await (await ask(address, { method: 'POST', body: form, signal: this.abort.signal })).json();
      this.id = status.id;
      while (status.state === 'queued' || status.state === 'running') {
        this.show(status);
        await pause(status.state === 'queued' ? 600 : 250, this.abort.signal);
        status = await this.poll(status);
      }
      if (status.state === 'failed') throw new Failure(sentence(status.error.detail));
      return status;
    } catch (error) {
      if (error.name === 'AbortError') return null;
      throw error;
    } finally {
      this.id = null;
      this.abort = null;
      this.box.hidden = true;
    }
  }

  /** The status after the last one; asks again for a minute if the connection fails, since the server goes on. */
  async poll(last) {
    for (let lost = 0; ; lost += 1) {
      try {
        return await (await ask(`api/v1/jobs/${this.id}`, { signal: this.abort.signal })).json();
      } catch (error) {
        if (error.name === 'AbortError' || error.passing === false || lost === RETRIES) throw error;
        this.show(last, 'The server does not answer, trying again');
        await pause(RETRY_PAUSE, this.abort.signal);
      }
    }
  }

  cancel() {
    if (!this.abort) return;
    if (this.id) ask(`api/v1/jobs/${this.id}`, { method: 'DELETE' }).catch(() => {});
    this.abort.abort();
  }

  show(status, phase = PHASES[status.phase] || status.phase) {
    const percent = Math.floor(100 * status.progress);
    const vague = status.progress === 0;
    this.box.querySelector('.job-phase').textContent = phase;
    const parts = [];
    if (status.ahead) parts.push(`${status.ahead} ${status.ahead === 1 ? 'job comes' : 'jobs come'} first`);
    if (!vague) parts.push(`${percent} %`);
    if (status.seconds_left !== null) parts.push(`${spell(status.seconds_left)} left`);
    this.box.querySelector('.job-left').textContent = parts.join(', ');
    this.bar.classList.toggle('vague', vague);
    this.bar.firstElementChild.style.width = vague ? '' : `${percent}%`;
    if (vague) this.bar.removeAttribute('aria-valuenow');
    else this.bar.setAttribute('aria-valuenow', percent);
    this.bar.setAttribute('aria-valuetext', parts.join(', ') || phase);
  }
}

/** A duration in words. */
export function spell(seconds) {
  if (seconds < 1) return 'less than a second';
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** A number of bytes in words. */
export function spellBytes(count) {
  return count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

/** A message with a capital letter and a full stop. */
export function sentence(text) {
  const isWord = /^[a-z]+[ ,:]/.test(text);  // and not a file's name
  const whole = isWord ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** A box for messages that are read out. */
export class Alert {
  constructor(box) {
    this.box = box;
    this.text = box.querySelector('span');
    box.querySelector('button').addEventListener('click', () => this.clear());
  }

  show(message) {
    this.text.textContent = message;
    this.box.hidden = false;
    this.box.scrollIntoView({ block: 'nearest' });
  }

  clear() { this.box.hidden = true; this.text.textContent = ''; }
}

export function announce(text) { document.getElementById('announce').textContent = text; }

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => { clearTimeout(timer); reject(new DOMException('stopped', 'AbortError')); };
    const timer = setTimeout(() => { signal.removeEventListener('abort', stop); resolve(); }, milliseconds);
    signal.addEventListener('abort', stop, { once: true });
  });
}
