import { signal } from "@preact/signals";
import { post } from "../../api/client";
import { ApiError, inWords, wasAborted } from "../../api/errors";
import type { Plan } from "../../api/types";

export interface Wish {
  model: string;
  ram: number;
  ctx: number | null;
}

/** The answer to the latest wish: a plan, or why there is none and the smallest budget that would do. */
export type Answer = { plan: Plan } | { why: string; hint: string; smallest: number | null };

export const answer = signal<Answer | null>(null);
export const asking = signal(false);

/** Speeds that plans have promised, by budget, for the model and context that are chosen. */
export const curve = signal<ReadonlyMap<number, number>>(new Map());

const DEBOUNCE_MS = 120;
const BUSY_MS = 700;
const SAMPLES = 10;

let current = new AbortController();
let timer: ReturnType<typeof setTimeout> | undefined;
let curveOf = "";

/** Asks for a plan once the person has stopped moving for a moment. */
export function wishFor(wish: Wish): void {
  clearTimeout(timer);
  current.abort();
  current = new AbortController();
  const { signal: left } = current;
  asking.value = true;
  timer = setTimeout(() => void settle(wish, left), DEBOUNCE_MS);
}

async function settle(wish: Wish, left: AbortSignal): Promise<void> {
  try {
    const got = await ask(wish, left);
    answer.value = got;
    asking.value = false;
    if ("plan" in got) await sample(wish, got.plan, left);
  } catch (error) {
    if (wasAborted(error)) return;
    if (error instanceof ApiError && error.status === 429) {
      // Plans that were given up on are still being made.
      timer = setTimeout(() => void settle(wish, left), BUSY_MS);
      return;
    }
    asking.value = false;
    answer.value = { why: inWords(error), hint: "", smallest: null };
  }
}

async function ask(wish: Wish, left: AbortSignal): Promise<Answer> {
  try {
    const message = { model: wish.model, ram: wish.ram, ...(wish.ctx ? { ctx: wish.ctx } : {}) };
    return { plan: (await (await post("v1/apportion/plan", message, left)).json()) as Plan };
  } catch (error) {
    if (error instanceof ApiError && (error.status === 400 || error.status === 404)) return refusal(error);
    throw error;
  }
}

interface Refusal {
  error?: { details?: { what?: string; why?: string; hint?: string; numbers?: { smallest_budget?: number } } };
}

function refusal({ body, message }: ApiError): Answer {
  const { what, why, hint, numbers } = (body as Refusal | null)?.error?.details ?? {};
  return { why: what ? [what, why].filter(Boolean).join(": ") : message, hint: hint ?? "", smallest: numbers?.smallest_budget ?? null };
}

/** Fills the curve between the smallest budget and the one that keeps everything in memory. */
async function sample(wish: Wish, plan: Plan, left: AbortSignal): Promise<void> {
  const subject = `${wish.model} ${wish.ctx}`;
  if (subject !== curveOf) curve.value = new Map();
  curveOf = subject;
  record(plan);
  const { smallest_budget: low, resident_budget: high } = plan;
  if (!low || !high || high <= low) return;
  for (let index = 0; index <= SAMPLES; index++) {
    const ram = Math.ceil(low + ((high - low) * index) / SAMPLES);
    if (curve.value.has(ram)) continue;
    const got = await ask({ ...wish, ram }, left);
    if ("plan" in got) record(got.plan, ram);
  }
}

function record(plan: Plan, ram = plan.ram): void {
  const speed = plan.forecast.decode_tok_s;
  if (speed !== null) curve.value = new Map([...curve.value, [ram, speed]]);
}
