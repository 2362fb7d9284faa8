"use strict";
const POLL_MS = 2000;
const shown = new Map(); // "section/scan" -> [element, what it shows]

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // text only: names come from outside
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// The clock on the wall beside the reader; the month in letters, for 3/4 is two days.
const clock = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });

function item(row) {
  const made = element("li", undefined, { class: row.verdict || row.state });
  made.append(element("h3", row.name));
  const line = element("p");
  line.append(element("span", row.word, { class: "word" }));
  if (row.scan !== null) {
    line.append(` · scan ${row.scan} · `);
    line.append(element("time", clock.format(new Date(row.at)), { datetime: row.at }));
  }
  if (row.folder) line.append(` · in ${row.folder}`);
  made.append(line);
  if (row.same) made.append(element("p", `The same scan as scan ${row.first}, ${row.same}: they have one result.`));
  if (row.reason) made.append(element("p", row.reason));
  if (row.todo) made.append(element("p", `What to do: ${row.todo}`, { class: "todo" }));
  if (row.slices) {
    made.append(element("progress", undefined, {
      max: row.slices[1] || 1, value: row.slices[0], "aria-label": `progress of ${row.name}`,
    }));
  }
  if (row.picture) {
    made.append(element("img", undefined, {
      src: `picture/${row.scan}.png`, loading: "lazy",
      alt: `${row.name}: axial, coronal and sagittal slice, ${row.state === "held" ? "of the scan" : "above before, below the synthetic result"}`,
    }));
  }
  if (row.report) {
    const link = element("a", "Report", { href: `report/${row.scan}` });
    link.setAttribute("aria-label", `Report of ${row.name}`);
    made.append(link);
  }
  return made;
}

function fill(name, rows) {
  const section = document.getElementById(name);
  const list = section.querySelector("ul");
  const called = (row) => `${name}/${row.scan ?? row.name}`;
  const wanted = new Set(rows.map(called));
  for (const [key, [old]] of shown) {
    if (key.startsWith(`${name}/`) && !wanted.has(key)) { old.remove(); shown.delete(key); }
  }
  rows.forEach((row, place) => {
    const key = called(row);
    const text = JSON.stringify(row);
    let [made, before] = shown.get(key) || [];
    if (before !== text) { // only what changed is made anew, so that focus stays where it is
      const fresh = item(row);
      if (made) made.replaceWith(fresh);
      made = fresh;
      shown.set(key, [made, text]);
    }
    if (list.children[place] !== made) list.insertBefore(made, list.children[place] || null);
  });
  const none = section.querySelector(".none");
  if (none) none.hidden = rows.length > 0;
  else section.hidden = rows.length === 0;
}

function say(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text; // read out only when it changes
  place.hidden = !text;
}

async function ask() {
  try {
    const answer = await fetch("scans.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const told = await answer.json();
    say("lost", "");
    say("state", told.state);
    document.getElementById("state").classList.toggle("trouble", !told.well);
    for (const name of ["trouble", "queue", "done"]) fill(name, told[name]);
    document.title = told.trouble.length ? `(${told.trouble.length}) lohi-edge` : "lohi-edge";
  } catch (error) {
    say("lost", "The software does not answer. What stands below is old. Tell whoever looks after this device.");
  }
  setTimeout(ask, POLL_MS);
}
ask();
