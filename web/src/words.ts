import type { Kind } from "./api/types";

export const KINDS: Kind[] = ["runtime", "dense_weights", "expert_slots", "kv", "workspace", "io_buffers", "reserve"];

export const KIND_NAMES: Record<Kind, string> = {
  runtime: "Runtime",
  dense_weights: "Dense weights",
  expert_slots: "Expert slots",
  kv: "Keys and values",
  workspace: "Workspace",
  io_buffers: "Read buffers",
  reserve: "Reserve",
};

export const KIND_MEANINGS: Record<Kind, string> = {
  runtime: "interpreter, libraries, all that is too small to be counted singly",
  dense_weights: "attention, embeddings and what every token needs",
  expert_slots: "room for experts; the others are read from disk when routed to",
  kv: "what the model remembers of prompts and answers",
  workspace: "intermediate results of a pass",
  io_buffers: "where reads from disk land",
  reserve: "kept free on purpose",
};

const STALLS: Record<string, string> = {
  experts: "Experts from disk",
  layers: "Layers from disk",
  embedding: "Rows of the embedding",
  kv: "Keys and values from disk",
};

/** A cause of stalls in words; causes that this page does not know are shown as they are called. */
export function stallWords(cause: string): string {
  return STALLS[cause] ?? sentence(cause);
}

export function sentence(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
