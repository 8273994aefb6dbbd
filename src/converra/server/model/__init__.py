"""A stand-in for a model: answers OpenAI's, Anthropic's and Gemini's APIs with no model behind them.

It is honest about itself: the answer's `model` is the asked name with `-stand-in` after it, the `system_fingerprint` is
"stand-in", and asked anything it has no canned answer for, it says what it is. What it says depends on nothing but the
request, so a program that talks to it does the same each time. Ids are numbered per server.

Words in the last user message decide, see `support`; tools are called where their name or description shares a word
with the message. A message can also ask for any shape of answer by directives in double brackets::

    [[say:TEXT]]          answer with exactly this                      [[words:N]]     answer with N words
    [[tool:NAME {JSON}]]  call a tool; several are parallel calls       [[empty]]       answer with no text at all
    [[custom:NAME TEXT]]  call a custom tool with free text             [[function:NAME {JSON}]]  legacy function_call
    [[then]]              what follows is for the next call of the same user turn (after the tool results)
    [[refuse]] [[refuse:TEXT]]     a refusal                            [[reasoning:TEXT]]  reasoning before the answer
    [[length]]            cut off by the token limit                    [[filter]]      cut off by the content filter
    [[audio]]             an audio answer with a transcript             [[citation]]    a url_citation annotation
    [[usage:{JSON}]]      fields to merge into the usage                [[usage:none]]  no usage at all
    [[extra:{JSON}]]      fields to merge into the message              [[item:{JSON}]] an output item (responses)
    [[model:NAME]]        answer under this model name
    [[error:STATUS]] [[error:STATUS xN]]   an error answer; with xN only to the first N requests with this message
    [[slow:SECONDS]]      wait before an answer, or before each event of a stream
    [[cut]] [[cut:N]]     break the connection: half-way through a stream, or after N events; instead of an answer
    [[fail]] [[fail:N]]   an error event in the stream, at the same places; the response fails (responses)
    [[hang]] [[hang:N]]   say nothing more until the client goes away, at the same places
    [[azure]]             a first chunk without choices, as Azure sends
    [[running-usage]]     the usage so far in each chunk, as some providers send
"""
