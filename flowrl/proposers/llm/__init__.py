"""The proposer that asks a language model, at any OpenAI-compatible address.

From the outside in: ``proposer`` runs the conversation about each skill, and ``conversation`` holds its messages.
``questions`` and ``prompts`` write what the model reads; ``judging`` and ``proposal`` check what it answers.
``recorded_model`` is the model together with its recorded answers (``calls``); ``account`` and ``prices`` track what they cost.
``endpoint`` asks, with retries, in one of the ``answer_forms``; ``form_check`` finds out which one the server supports;
``reading`` finds the JSON in the answer. Only ``connection`` imports ``openai``: it sends the requests. ``http_environment``
checks the environment variables that its HTTP client reads, and ``credentials`` keeps keys out of everything shown or written.
``state`` is the summary in the state file. User documentation: docs/LLM_CONFIGURATION.md.
"""
