interface Props {
  label: string;
  share: number;
  /** Colour class; the accent colour where it is left out. */
  tone?: string;
  words?: string;
}

/** A bar from nothing to all. */
export function Meter({ label, share, tone = "", words }: Props) {
  const whole = Math.round(100 * Math.min(1, Math.max(0, share)));
  return (
    <div
      class={`meter ${tone}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={whole}
      aria-valuetext={words}
    >
      <i style={{ width: `${whole}%` }} />
    </div>
  );
}
