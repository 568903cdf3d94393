// Calls and thinking in a stream; every part with a call goes back with its result, until no more calls come.
import { Ollama } from 'ollama'

const [host, model] = process.argv.slice(2)
const ollama = new Ollama({ host })

const known = {
  getTemperature: ({ city }) => `${city}: 9 degrees`,
  getConditions: ({ city }) => `${city}: snowy`,
}

const tools = Object.keys(known).map((name) => ({
  type: 'function',
  function: {
    name,
    description: name,
    parameters: {
      type: 'object',
      required: ['city'],
      properties: { city: { type: 'string', enum: ['London', 'Toronto'], description: 'The name of the city' } },
    },
  },
}))

const messages = [{ role: 'user', content: 'What is the temperature in London, and how is the weather in Toronto?' }]
const rounds = []
for (let isCalled = true; isCalled; ) {
  const round = { thinking: '', content: '', calls: [] }
  isCalled = false
  for await (const chunk of await ollama.chat({ model, messages, tools, stream: true, think: true })) {
    round.thinking += chunk.message.thinking ?? ''
    round.content += chunk.message.content
    for (const { function: called } of chunk.message.tool_calls ?? []) {
      isCalled = true
      round.calls.push([called.name, called.arguments])
      messages.push(chunk.message)
      messages.push({ role: 'tool', content: known[called.name](called.arguments), tool_name: called.name })
    }
  }
  rounds.push(round)
}

console.log(JSON.stringify(rounds))
