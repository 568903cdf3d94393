// Filling in, pictures by path and by bytes, log-probabilities, and what the library says of errors.
import { readFileSync } from 'node:fs'
import { Ollama } from 'ollama'

const [host, coder, seeing, speaking, picture] = process.argv.slice(2)
const ollama = new Ollama({ host })
const options = { num_predict: 4, temperature: 0 }

const filled = await ollama.generate({ model: coder, prompt: 'def add(', suffix: 'return c', options: { stop: ['<EOT>'] } })

const seen = []
for (const image of [picture, new Uint8Array(readFileSync(picture))]) {
  for await (const part of await ollama.generate({
    model: seeing,
    prompt: 'describe this image:',
    images: [image],
    stream: true,
    options,
  })) {
    if (part.done) seen.push(part.prompt_eval_count)
  }
}

const hello = await ollama.chat({
  model: speaking,
  messages: [{ role: 'user', content: 'Say hello in one word.' }],
  logprobs: true,
  top_logprobs: 3,
  options,
})

const refused = await ollama.chat({ model: speaking, messages: [{ role: 'user', content: 'Hi' }], think: true }).catch(
  ({ name, status_code, message }) => ({ name, status_code, message }),
)

const shown = await ollama.show({ model: coder })
const created = await ollama.create({ model: 'from-javascript', from: speaking, system: 'You are Mario.' })
const deleted = await ollama.delete({ model: 'from-javascript' })
const { models } = await ollama.ps()

console.log(
  JSON.stringify({
    filled: filled.response,
    seen,
    logprobs: hello.logprobs,
    said: hello.message.content,
    refused,
    capabilities: shown.capabilities,
    status: [created.status, deleted.status],
    running: models.map(({ name }) => name),
  }),
)
