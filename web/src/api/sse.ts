import { wasAborted, ApiError } from "./errors";

/** One server-sent event; comments (keep-alives, progress) come with `event` "comment". */
export interface ServerEvent {
  event: string;
  data: string;
}

/** Cuts a stream of text into events (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export class EventCutter {
  private rest = "";

  /** The events that are complete with `text`. */
  feed(text: string): ServerEvent[] {
    const blocks = (this.rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.flatMap(eventsOf);
  }
}

function eventsOf(block: string): ServerEvent[] {
  let event = "message";
  const data: string[] = [];
  const comments: ServerEvent[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const [name, value] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    if (colon === 0) comments.push({ event: "comment", data: value });
    else if (name === "event") event = value;
    else if (name === "data") data.push(value);
  }
  return data.length ? [...comments, { event, data: data.join("\n") }] : comments;
}

/**
 * The events of an answer while they arrive.
 *
 * EventSource cannot send a key, which is why this reads the body itself.
 *
 * @throws ApiError where the connection breaks off.
 */
export async function* eventsIn(response: Response): AsyncGenerator<ServerEvent> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const cutter = new EventCutter();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* cutter.feed(value);
    }
  } catch (error) {
    if (wasAborted(error)) throw error;
    throw new ApiError("the connection broke off", 0);
  } finally {
    await reader.cancel().catch(() => undefined); // what is not read any more ends at the server, too
  }
}
