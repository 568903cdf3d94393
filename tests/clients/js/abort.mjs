// Of two streams of two clients one is broken off, then all of one client; the rest goes on.
import { Ollama } from 'ollama'

const [host, model] = process.argv.slice(2)
const one = new Ollama({ host })
const other = new Ollama({ host })
const options = { num_predict: 40, temperature: 0 }

const read = async (client, parts) => {
  try {
    const stream = await client.generate({ model, prompt: 'Write a long story about dragons', stream: true, options })
    for await (const chunk of stream) {
      parts.push(chunk)
      if (client === one && parts.length === 3) client.abort()
    }
    return 'whole'
  } catch (error) {
    return error.name
  }
}

const aborted = []
const whole = []
const endings = await Promise.all([read(one, aborted), read(other, whole)])
const stream = await other.chat({ model, messages: [{ role: 'user', content: 'Hi' }], stream: true, options })
let parts = 0
try {
  for await (const _ of stream) {
    if (++parts === 2) stream.abort()
  }
} catch (error) {
  endings.push(error.name)
}

console.log(JSON.stringify({ endings, aborted: aborted.length, last: whole.at(-1), parts }))
