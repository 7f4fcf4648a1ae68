import { useState } from "react";
import { getKey, isKey, isLocked, Refused, setKey, Unreachable } from "./api";

interface Props {
  error?: Error;
  failedShards: number[];
  retry: () => void;
}

/** What went wrong, in words, and what can be done about it. */
export function Notice({ error, failedShards, retry }: Props) {
  if (error instanceof Unreachable)
    return (
      <div className="notice bad" role="alert">
        <b>{error.message ? "The server cannot answer just now." : "The server does not answer."}</b>
        <p>
          {error.message
            ? `It says: ${error.message}. `
            : `Nothing came back from ${location.host}. Is simshard running? `}
          This page tries again by itself and goes on where you are.
        </p>
        <button type="button" onClick={retry}>
          Try now
        </button>
      </div>
    );
  if (isLocked(error)) return <KeyForm />;
  if (error instanceof Refused)
    return (
      <div className="notice bad" role="alert">
        <b>{error.status === 404 ? "None of the liked titles is in this catalogue." : "The server refused this."}</b>
        <p>
          {error.status === 404
            ? "Find others above; the link may be of another catalogue."
            : `It says: ${error.message}`}
        </p>
        <button type="button" onClick={retry}>
          Try again
        </button>
      </div>
    );
  if (error)
    return (
      <div className="notice bad" role="alert">
        <b>Something went wrong.</b>
        <p>{error.message}</p>
        <button type="button" onClick={retry}>
          Try again
        </button>
      </div>
    );
  if (failedShards.length)
    return (
      <div className="notice" role="status">
        <b>Some hits may be missing.</b>
        <p>
          {failedShards.length === 1 ? `Shard ${failedShards[0]}` : `Shards ${failedShards.join(", ")}`} did not answer;
          what is shown is right for the others.
        </p>
        <button type="button" onClick={retry}>
          Try again
        </button>
      </div>
    );
  return null;
}

function KeyForm() {
  const [key, set] = useState("");
  const given = key.trim();
  return (
    <form
      className="notice"
      onSubmit={(event) => {
        event.preventDefault();
        setKey(given);
        location.reload(); // the address holds where one was
      }}
    >
      <b role="alert">{getKey() ? "The server does not take this key." : "This server asks for its API key."}</b>
      <p>It stays in this tab and goes to this server only.</p>
      <label>
        API key <input type="password" autoComplete="off" value={key} onChange={(event) => set(event.target.value)} />
      </label>
      {given !== "" && !isKey(given) && <p>There are letters in it that no key has: was it copied whole?</p>}
      <button type="submit" disabled={!isKey(given)}>
        Go on
      </button>
    </form>
  );
}
