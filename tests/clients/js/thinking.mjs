// Thinking of a whole answer, of a stream, at three levels, and of a generation.
import { Ollama } from 'ollama'

const [host, model] = process.argv.slice(2)
const ollama = new Ollama({ host })
const messages = [{ role: 'user', content: 'What is 10 + 23' }]

const whole = await ollama.chat({ model, messages, think: true, stream: false })

const parts = []
for await (const chunk of await ollama.chat({ model, messages, think: true, stream: true })) {
  parts.push([chunk.message.thinking ?? '', chunk.message.content])
}

const levels = {}
for (const think of ['low', 'medium', 'high']) {
  levels[think] = (await ollama.chat({ model, messages, think })).message.thinking
}

const generated = await ollama.generate({ model, prompt: 'What is 10 + 23', think: true })

console.log(JSON.stringify({ whole: whole.message, parts, levels, generated: [generated.thinking, generated.response] }))
