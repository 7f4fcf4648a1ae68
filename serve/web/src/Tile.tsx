import { useState } from "react";
import { tileOf } from "./format";

/** A picture of an item, or a colored tile with its initials; decoration, as the title stands beside it. */
export function Tile({ title, image, size = "medium" }: { title: string; image?: string; size?: "small" | "medium" }) {
  const [broken, setBroken] = useState<string>();
  const { initials, hue } = tileOf(title);
  if (image && image !== broken)
    return <img className={`tile ${size}`} src={image} alt="" loading="lazy" onError={() => setBroken(image)} />;
  return (
    <span className={`tile ${size}`} style={{ "--hue": hue } as React.CSSProperties} aria-hidden="true">
      {initials}
    </span>
  );
}
