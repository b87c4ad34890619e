/** The project's mark: a square, divided. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path class="k-dense_weights" d="M7 2h5v28H7a5 5 0 0 1-5-5V7a5 5 0 0 1 5-5z" />
      <path class="k-expert_slots" d="M14 2h11a5 5 0 0 1 5 5v11H14z" />
      <path class="k-kv" d="M14 20h7v10h-7z" />
      <path class="k-runtime" d="M23 20h7v5a5 5 0 0 1-5 5h-2z" />
    </svg>
  );
}
