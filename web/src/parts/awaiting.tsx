import { connection } from "../state/live";
import { locked } from "../state/key";
import { Empty } from "./card";

/** A page before the first figures have come. */
export function Awaiting({ title }: { title: string }) {
  return (
    <>
      <h1>{title}</h1>
      {connection.value === "lost" ? (
        <Empty title="No figures yet">The server cannot be reached. This page goes on trying.</Empty>
      ) : (
        <Empty title={locked.value ? "Waiting for a key" : "Waiting for the first figures"} />
      )}
    </>
  );
}
