// What a client finds at a server with API keys: `node keyed.mjs URL [SECRET]`. By itself it sends OLLAMA_API_KEY to
// ollama.com only; for any other server the header has to be given.
import { Ollama } from 'ollama'

const [host, secret] = process.argv.slice(2)
const headers = secret ? { Authorization: `Bearer ${secret}` } : {}
const ollama = new Ollama({ host, headers })
const messages = [{ role: 'user', content: 'Hi' }]

const status = async (work) => {
  try {
    await work()
    return 200
  } catch (error) {
    return error.status_code
  }
}

console.log(
  JSON.stringify({
    list: await status(() => ollama.list()),
    chat: await status(() => ollama.chat({ model: 'm', messages })),
    streamed: await status(async () => {
      for await (const part of await ollama.chat({ model: 'm', messages, stream: true })) void part.message
    }),
    show: await status(() => ollama.show({ model: 'm' })),
    copy: await status(() => ollama.copy({ source: 'm', destination: 'js-copy' })),
  }),
)
