"""A proposal: what the model's answer has to be, and how it becomes a skill."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from flowrl.errors import BadInput
from flowrl.proposers.llm.errors import AnswerRefused
from flowrl.proposers.llm.reading import json_object, short
from flowrl.skills.candidates import Offer, reason_of
from flowrl.skills.facts import GameFacts, check_resources
from flowrl.skills.menu import Gain, Pay, Term, write_is_done, write_reward
from flowrl.skills.spec import SkillSpec, name_from

HEAVIEST = 10.0
_AMOUNTS = ("requires", "consumes", "gains")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ResourceAmount(_Strict):
    """How much of one resource: ``per * n + fixed``."""

    resource: str
    per: int | float
    fixed: int | float


class MenuTerm(_Strict):
    """One line of the reward menu."""

    term: Literal["gain", "approach", "recover", "avoid_damage", "descend"]
    target: str | None
    weight: float

    def written(self) -> Term:
        """The term of :mod:`flowrl.skills.menu`.

        Raises:
            BadInput: the target is missing, or the weight is out of range.
        """
        if not 0 < self.weight <= HEAVIEST:
            raise BadInput(f"reward_menu: {self.term} has weight {self.weight:g}; choose one above 0, up to {HEAVIEST:g}")
        if self.term == "avoid_damage":
            return Pay(self.term, None, self.weight)
        if not self.target:
            raise BadInput(f"reward_menu: {self.term} has no target; name the resource, block, creature, floor or intrinsic")
        match self.term:
            case "gain":
                return Gain(self.target, self.weight)
            case "descend":
                return Gain(f"level:{self.target.removeprefix('level:')}", self.weight)
        return Pay(self.term, self.target.removeprefix("near:"), self.weight)


class Reward(_Strict):
    """One of several rewards: terms of the menu, or a function."""

    reward_menu: list[MenuTerm] | None = Field(...)
    task_reward: str | None = Field(...)

    @model_validator(mode="before")
    @classmethod
    def _forgive(cls, data: Any) -> Any:
        return {"reward_menu": None, "task_reward": None} | data if isinstance(data, dict) else data

    def written(self, spec: SkillSpec, facts: GameFacts) -> str:
        """The source of a skill's ``task_reward``; a menu that pays for none of the gains gets the first of them added.

        Raises:
            BadInput: there is none, or a term of the menu is wrong.
        """
        if not self.reward_menu:
            if self.task_reward and self.task_reward.strip():
                return without_fence(self.task_reward)
            raise BadInput(f"skill {spec.name} has neither a reward_menu nor a task_reward; give one of them")
        terms = [term.written() for term in self.reward_menu]
        paid = {term.resource for term in terms if isinstance(term, Gain)}
        if not paid & spec.gains.keys():
            terms = [Gain(next(iter(spec.gains))), *terms]
        return write_reward(terms, facts)


class Proposal(_Strict):
    """One new skill: its code as two functions, or as terms of the menu."""

    name: str
    description: str
    requires: list[ResourceAmount]
    consumes: list[ResourceAmount]
    gains: list[ResourceAmount]
    reward_menu: list[MenuTerm] | None = Field(...)
    task_is_done: str | None = Field(...)
    task_reward: str | None = Field(...)
    rewards: SkipJsonSchema[list[Reward] | None] = None
    """Where several are asked for: in place of ``reward_menu`` and ``task_reward``; see :func:`schema`."""

    @model_validator(mode="before")
    @classmethod
    def _forgive(cls, data: Any) -> Any:
        """What is meant is clear: an absent field is empty, and amounts may come as an object by resource."""
        if not isinstance(data, dict):
            return data
        code = dict.fromkeys(("reward_menu", "task_is_done", "task_reward"))
        data = {"description": "", **{role: [] for role in _AMOUNTS}, **code} | data
        for role in _AMOUNTS:
            if isinstance(data[role], dict):
                data[role] = [_entry(resource, amount) for resource, amount in data[role].items()]
        return data

    def offer(self, facts: GameFacts, most: int) -> Offer:
        """The skill, with its code and at most so many of its rewards.

        Raises:
            BadInput: a field of it is wrong, or every reward; names the field and what it should be.
        """
        if not self.gains:
            raise BadInput(f"skill {self.name} gains nothing; declare what holds once it is done")
        blank = "def written_below(): pass"
        spec = SkillSpec.from_data(
            {"skill_name": name_from(self.name), **self._data(), "task_is_done": blank, "task_reward": blank}
        )
        check_resources(spec, facts)
        spec = spec.model_copy(update={"task_is_done": self._is_done(spec, facts)})
        rewards, dropped = self._written(spec, facts, most)
        return Offer({number: spec.model_copy(update={"task_reward": reward}) for number, reward in rewards.items()}, dropped)

    def spec(self, facts: GameFacts) -> SkillSpec:
        """The skill, with its code and its first reward.

        Raises:
            BadInput: as ``offer``.
        """
        return self.offer(facts, 1).spec

    @property
    def _offered(self) -> list[Reward]:
        return self.rewards or [Reward(reward_menu=self.reward_menu, task_reward=self.task_reward)]

    def _written(self, spec: SkillSpec, facts: GameFacts, most: int) -> tuple[dict[int, str], dict[int, BadInput]]:
        """The rewards' sources by number, and what is wrong with the others."""
        sources: dict[int, str] = {}
        faults: dict[int, BadInput] = {}
        for number, reward in enumerate(self._offered[:most], 1):
            try:
                sources[number] = reward.written(spec, facts)
            except BadInput as error:
                faults[number] = error
        if not sources:
            raise reason_of(self.name, faults)
        return sources, faults

    def _data(self) -> dict[str, Any]:
        amounts = {role: {entry.resource: _amount(entry) for entry in getattr(self, role)} for role in _AMOUNTS}
        return {"description": " ".join(self.description.split()), **amounts}

    def _is_done(self, spec: SkillSpec, facts: GameFacts) -> str:
        if self.task_is_done and self.task_is_done.strip():
            return without_fence(self.task_is_done)
        if not any(reward.reward_menu for reward in self._offered):
            raise BadInput(f"skill {self.name} has neither a reward_menu nor a task_is_done; give one of them")
        return write_is_done(spec.gains, facts)


def schema(rewards: int = 1) -> dict[str, Any]:
    """The JSON schema of a proposal, in the part of JSON Schema that structured outputs allow.

    Args:
        rewards: how many are asked for; several stand in a list, in place of ``reward_menu`` and ``task_reward``.
    """
    found = _schema_of(Proposal)
    if rewards > 1:
        fields = found["properties"]
        del fields["reward_menu"], fields["task_reward"]
        fields["rewards"] = {"type": "array", "items": _schema_of(Reward)}
        found["required"] = list(fields)
    return found


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    found = model.model_json_schema()
    return _plain(found, found.pop("$defs", {}))


def parse_proposal(text: str) -> Proposal:
    """The proposal in the text of an answer.

    Raises:
        AnswerRefused: there is no JSON object in it, or it is not of this form; one line that names the place.
    """
    return proposal_of(json_object(text))


def proposal_of(data: dict[str, Any]) -> Proposal:
    """The proposal that a JSON object is.

    Raises:
        AnswerRefused: it is not of this form; one line that names the place.
    """
    try:
        return Proposal.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"] if part not in ("int", "float")) or "the answer"
        found = short(repr(fault["input"]))
        raise AnswerRefused(f"{place}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {found}") from None


def without_fence(code: str) -> str:
    """A function without the Markdown fence that models put around it."""
    lines = code.strip().splitlines()
    if lines and lines[0].startswith("```"):
        lines = lines[1:-1] if lines[-1].strip() == "```" else lines[1:]
    return "\n".join(lines).strip("\n") + "\n"


def _amount(entry: ResourceAmount) -> dict[str, Any]:
    return entry.model_dump(exclude={"resource"})


def _entry(resource: str, amount: Any) -> Any:
    if isinstance(amount, dict):
        return {"resource": resource, "per": 0, "fixed": 0} | amount
    return {"resource": resource, "per": 0, "fixed": amount}


def _plain(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema without references, titles and defaults."""
    if isinstance(node, list):
        return [_plain(entry, definitions) for entry in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if node.get("anyOf") == [{"type": "integer"}, {"type": "number"}]:
        return {"type": "number"}
    kept = {key: value for key, value in node.items() if key not in ("title", "default", "description")}
    if "properties" in node:
        kept["properties"] = {name: _plain(value, definitions) for name, value in node["properties"].items()}
        return {key: _plain(value, definitions) if key != "properties" else value for key, value in kept.items()}
    return {key: _plain(value, definitions) for key, value in kept.items()}
