// The page: a form that starts exports, the list that shows them, and the
// stream that keeps the list current.

import { Account } from "./account.js";
import { announce, byId, say } from "./dom.js";
import { title } from "./figures.js";
import { Form } from "./form.js";
import * as format from "./format.js";
import { List } from "./list.js";
import { Stream } from "./stream.js";

const STATES = {
  live: ["Live", ""],
  interrupted: [
    "Reconnecting",
    "The live stream is interrupted; meanwhile the list is read every 2 seconds.",
  ],
  unreachable: [
    "Offline",
    "The server cannot be reached. Trying again; what you see may be out of date.",
  ],
};

const list = new List({ confirm: confirmDeletion, reread: () => stream.poll() });
const stream = new Stream({
  changed: (item) => list.change(item),
  deleted: (id) => list.remove(id),
  refresh: () => list.refresh(),
  state: showState,
});
const form = new Form((item) => {
  list.reveal(item);
  announce(`Export of ${title(item)} started.`);
});

function showState(state, problem) {
  const connection = byId("connection");
  const before = connection.dataset.state;
  connection.dataset.state = state;
  const [name, meaning] = STATES[state];
  const explanation = problem?.status ? `${problem.title}. ${problem.message}` : meaning;
  say(connection, name);
  say(byId("trouble-text"), explanation);
  byId("trouble").classList.toggle("told", explanation !== "");
  if (before === "unreachable" && state !== before) form.recover();
}

/** Ask whether *item* shall go; resolve to the answer. */
function confirmDeletion(item) {
  const dialog = byId("confirm");
  const file = item.status === "completed" ? ` and its file (${format.size(item.bytes)})` : "";
  say(byId("confirm-text"), `The export of ${title(item)}${file} will be gone for everyone.`);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "delete");
  });
}

for (const answer of ["keep", "delete"]) {
  byId(`confirm-${answer}`).addEventListener("click", () => byId("confirm").close(answer));
}
byId("reconnect").addEventListener("click", () => stream.reconnect());

const account = new Account(() => {
  form.load();
  stream.start();
});
account.enter();
