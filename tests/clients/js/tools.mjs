// One call, the message with it sent back, a result that does not say which tool it is of, a last answer.
import { Ollama } from 'ollama'

const [host, model] = process.argv.slice(2)
const ollama = new Ollama({ host })

const known = {
  addTwoNumbers: ({ a, b }) => a + b,
  subtractTwoNumbers: ({ a, b }) => a - b,
}

const tools = Object.keys(known).map((name) => ({
  type: 'function',
  function: {
    name,
    description: name,
    parameters: {
      type: 'object',
      required: ['a', 'b'],
      properties: {
        a: { type: 'number', description: 'The first number' },
        b: { type: 'number', description: 'The second number' },
      },
    },
  },
}))

const messages = [{ role: 'user', content: 'What is three minus one, and two plus two?' }]
const response = await ollama.chat({ model, messages, tools })
for (const { function: called } of response.message.tool_calls) {
  messages.push(response.message) // once for each call, as the calculator does
  messages.push({ role: 'tool', content: known[called.name](called.arguments).toString() })
}
const last = await ollama.chat({ model, messages })

console.log(JSON.stringify({ messages, answer: last.message.content, reason: response.done_reason }))
