/** What the server tells of itself, as `serve/schemas/status.py` describes it field by field. Bytes are bytes, times are seconds. */

export type Kind = "runtime" | "dense_weights" | "expert_slots" | "kv" | "workspace" | "io_buffers" | "reserve";

export type Shares = Partial<Record<Kind, number>>;

export interface RamTier {
  /** null: no budget was stated. */
  limit_bytes: number | null;
  leased_bytes: number;
  rss_bytes: number;
  peak_rss_bytes: number;
  kinds: Shares;
}

export interface DiskTier {
  /** 0: nothing is kept on disk. */
  limit_bytes: number;
  used_bytes: number;
}

export interface Speeds {
  decode_tok_s: number | null;
  prefill_tok_s: number | null;
  ttft_s: number | null;
}

export type SpeedName = keyof Speeds;

export interface Forecast extends Speeds {
  load_s?: number;
  prompt_tokens?: number;
  basis?: string;
  ranges?: Record<string, [number, number]>;
}

export interface Plan {
  model: string;
  ram: number;
  ctx: number;
  kv: string;
  threads?: number;
  concurrency?: number;
  embedding?: string;
  expert_slots: number[];
  streamed_layers: number[];
  resident_fraction: number;
  hit_rate: number;
  hit_rate_source?: string;
  disk_bytes_per_token: number;
  scheduler?: string;
  scheduler_why?: string;
  advice: string[];
  bytes: Shares;
  forecast: Forecast;
  policies?: Record<string, string>;
  fits?: boolean;
  smallest_budget?: number;
  resident_budget?: number;
  tiers?: { ram: number; disk: number };
}

export interface ModelState {
  name: string;
  state: "loaded" | "loading" | "unloaded" | "failed";
  progress: number;
  error: string | null;
  ctx: number | null;
  scheduler: string | null;
  kv: { codec: string; blocks: number; free_blocks: number; kept_blocks: number } | null;
  plan: Plan | null;
  forecast: Speeds | null;
  measured: Speeds;
  experts: { layers: number; experts: number; slots: number; hits: number; misses: number; resident: number } | null;
}

export interface RequestState {
  id: string;
  model: string;
  state: "waiting" | "loading" | "prefill" | "decode";
  choices: number;
  prompt_tokens: number;
  cached_tokens: number;
  computed_tokens: number;
  output_tokens: number;
  max_tokens: number;
  age_s: number;
  ttft_s: number | null;
  tok_s: number | null;
}

export interface Rates {
  decode_tok_s: number | null;
  prefill_tok_s: number | null;
  disk_read_bytes_s: number | null;
  ttft_p50_s: number | null;
  ttft_p99_s: number | null;
  tpot_p50_s: number | null;
  tpot_p99_s: number | null;
}

export interface Status {
  version: string;
  uptime_s: number;
  ready: boolean;
  draining: boolean;
  budget: { ram: RamTier; disk: DiskTier };
  models: ModelState[];
  requests: RequestState[];
  rates: Rates;
  stalls: Record<string, number>;
  counters: Record<string, number>;
}

/** Rows are layers, columns are experts. */
export interface Experts {
  layers: number;
  experts: number;
  /** Which layers of the model the rows are. */
  numbers: number[];
  resident: number[][];
  hits: number[][];
  misses: number[][];
}

/** What an answer took; part of the block that `x_apportion: true` asks for. */
export interface Timings {
  ttft_s: number | null;
  prefill_s?: number | null;
  decode_s?: number | null;
  prefill_tok_s: number | null;
  decode_tok_s: number | null;
  cached_tokens: number;
}

/** One chunk of a streamed chat completion, as OpenAI writes them, with what is ours. */
export interface ChatChunk {
  choices: { delta: { content?: string | null; reasoning_content?: string | null }; finish_reason: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  x_apportion?: { timings?: Timings; warnings?: string[] };
  error?: { message?: string; code?: string | null };
}
