import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

interface Props {
  title: string;
  open: boolean;
  onClose?: () => void;
  children: ComponentChildren;
}

/** A modal window. The browser keeps the focus inside and gives it back. */
export function Dialog({ title, open, onClose, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open && !dialog.current?.open) dialog.current?.showModal();
    if (!open && dialog.current?.open) dialog.current.close();
  }, [open]);
  const refuse = (event: Event) => onClose ?? event.preventDefault();
  return (
    <dialog ref={dialog} aria-label={title} onClose={onClose} onCancel={refuse}>
      <h2>{title}</h2>
      {open && children}
    </dialog>
  );
}
