import { useEffect, useState } from "react";
import { Icon } from "./icons";

const TOLD = 1500; // milliseconds

/** A button that copies a text, where the browser lets it. */
export function Copy({ label, title, text }: { label: string; title?: string; text: () => string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), TOLD);
    return () => clearTimeout(timer);
  }, [copied]);
  if (!navigator.clipboard) return null;
  const told = copied ? "Copied" : label;
  const copy = () =>
    navigator.clipboard.writeText(text()).then(
      () => setCopied(true),
      () => {},
    );
  return (
    <button type="button" aria-label={told} title={title} onClick={copy}>
      <Icon name="link" /> <span>{told}</span>
    </button>
  );
}
