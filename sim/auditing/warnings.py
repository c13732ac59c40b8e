"""What a reader must know before believing the numbers of an audit."""

from typing import Any

from sim.auditing.measures import MIN_ESS

FEW_PROMPTS = 30  # below it percentile intervals are rough; assumption
ENOUGH = 0.9  # share of prompt weight whose candidates must carry a prediction; assumption


def warnings(report: dict[str, Any]) -> list[str]:
    """Return the warnings that a report calls for, in plain sentences."""
    counts, options, metric = report["sample"], report["options"], report["metrics"]
    found = []
    if counts["dropped_responses"]:
        found.append(
            f"{counts['rows_with_missing']} of {counts['rows']} rows lack a score; {counts['dropped_responses']} "
            f"responses and {counts['dropped_prompts']} whole prompts were left out ({options['missing']})."
        )
    if metric["push_shared"] * metric["push"] < 0:
        found.append(
            "A policy that acts on the named features would be pushed the other way than one that reweighs each "
            "prompt's answers by themselves: the signals tell answers apart that the features do not."
        )
    if counts["prompts"] < FEW_PROMPTS:
        found.append(f"Only {counts['prompts']} prompts: the intervals are rough, or there are none.")
    if counts["single_response_prompts"]:
        found.append(f"{counts['single_response_prompts']} prompts have one response only; nothing can move there.")
    if metric["supported"] < ENOUGH:
        found.append(
            f"At weight {options['weight']:g} and kl_coef {options['kl_coef']:.3g}, fewer than {MIN_ESS:g} answers "
            f"carry the prediction on {1 - metric['supported']:.0%} of prompts: the candidates cannot support it. "
            "Sample more answers per prompt, or look at less pressure."
        )
    beyond = [row for row in report["predictions"] if row["method"] == "closed_form" and row["supported"] < ENOUGH]
    if beyond:
        least = min(row["kl"] for row in beyond)
        found.append(f"Closed-form predictions from KL {least:.2g} nats on rest on too few answers; they are marked.")
    for row in report["signals"]:
        if row["spread"]["value"] == 0:
            found.append(f"Signal {row['signal']} is the same for all answers of a prompt: it decides nothing.")
    signs = {entry["at"]: entry["status"] for entry in report["critical_weight"][:3]}
    if len(set(signs.values())) > 1:
        found.append(
            "The critical weight says different things at small and at planned pressure ("
            + ", ".join(f"{at}: {word}" for at, word in signs.items())
            + "): the covariances hold at small pressure only."
        )
    return found
