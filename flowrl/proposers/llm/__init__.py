"""The proposer that asks a language model, at any OpenAI-compatible address.

``connection`` sends requests (and alone imports ``openai``) in the ``surroundings`` that there are, with ``credentials`` that
are shown nowhere, ``endpoint`` asks until there is an answer, ``ways`` are the forms in which a server can be asked for JSON,
``proposal`` is what an answer has to be, ``prompts`` what a question says, ``recordings`` what was said, ``prices``
what it cost, and ``proposer`` holds the conversation. docs/LLM_CONFIGURATION.md tells all of it to users.
"""
