"""The proposer that asks a language model, at any OpenAI-compatible address.

From the outside in: ``proposer`` holds the conversation about each skill, ``conversation`` is one proposal in the making,
``judging`` and ``proposal`` are what an answer has to be, ``questions`` and ``prompts`` what the model is told.
``recorded_model`` is the model with everything it has said (``calls``), and ``account`` and ``prices`` what that cost.
``endpoint`` asks until there is an answer, in one of the ``answer_forms``; ``form_check`` finds out which; ``reading`` finds
the JSON in it. ``connection`` alone imports ``openai``: it sends requests in the ``surroundings`` that there are, with
``credentials`` that are shown nowhere. ``state`` is what the state file says of all this. docs/LLM_CONFIGURATION.md tells
users.
"""
