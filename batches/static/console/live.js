// Keeps the page of a batch or a task as it is now: asks for the parts that change, and puts those
// that did in their place. Seldom once the row is finished, which a retry undoes, and not at all
// while nobody looks.
const EVERY = 2000;
const FINISHED = 15000;
const SLOWEST = 30000;
const page = document.querySelector("[data-live]");
let pause = EVERY;
let asking = false;
let next;

// Django's token against forged requests is masked anew in every answer.
const said = (part) => part.innerHTML.replace(/name="csrfmiddlewaretoken" value="[^"]*"/g, "");

function replace(old, fresh) {
  const reads = old.contains(document.activeElement) || old.querySelector("details[open]");
  if (said(old) === said(fresh) || reads) return;
  const log = old.querySelector(".oc-log");
  const atEnd = log && log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  const from = log ? log.scrollTop : 0;
  old.replaceChildren(...fresh.childNodes);
  const shown = old.querySelector(".oc-log");
  if (shown) shown.scrollTop = atEnd ? shown.scrollHeight : from;
}

async function refresh() {
  const address = new URL(location.href);
  address.searchParams.set("live", "1");
  const answer = await fetch(address, { headers: { Accept: "text/html" }, redirect: "error" });
  if (!answer.ok) throw new Error(answer.statusText);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of page.querySelectorAll("[data-live-part]")) {
    const its = fresh.querySelector(`[data-live-part="${part.dataset.livePart}"]`);
    if (its) replace(part, its);
  }
  page.dataset.live = answer.headers.get("X-Live");
}

async function turn() {
  // What is hidden goes on when it is shown again.
  if (asking || document.hidden) return;
  asking = true;
  try {
    await refresh();
    pause = EVERY;
    delete page.dataset.stale;
  } catch {
    pause = Math.min(pause * 2, SLOWEST);
    page.dataset.stale = "yes";
  }
  asking = false;
  wait();
}

function wait() {
  clearTimeout(next);
  next = setTimeout(turn, page.dataset.live === "on" ? pause : Math.max(pause, FINISHED));
}

if (page) {
  document.addEventListener("visibilitychange", turn);
  wait();
}
