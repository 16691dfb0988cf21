// Prints each event of the stream at the URL given, as a line of JSON; ends when
// the server says that there will be no more.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
const print = (line) => console.log(JSON.stringify({ at: Date.now(), ...line }));

source.onopen = () => print({ kind: "open" });
source.onerror = () => {
  const closed = source.readyState === EventSource.CLOSED;
  print({ kind: closed ? "closed" : "error" });
};
for (const kind of ["status", "progress", "deleted"]) {
  source.addEventListener(kind, (event) => {
    const { status, rows, jobId } = JSON.parse(event.data);
    print({ kind, id: event.lastEventId, jobId, status, rows });
  });
}
