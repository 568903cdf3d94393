// The official JavaScript client; its examples have a test of their own (test_js_examples.py).
import { Ollama } from 'ollama'
import * as scene from './scene.mjs'

const ollama = new Ollama({ host: scene.url })
const { messages, small, clerk } = scene
const options = { num_predict: 12, temperature: 0 }

const whole = await ollama.chat({ model: small, messages, options })
const parts = await ollama.chat({ model: small, messages, options, stream: true })
const said = await scene.gather(parts, (part) => part.message.content)

const first = await ollama.chat({ model: clerk, messages, tools: [scene.weatherTool] })
const [{ function: call }] = first.message.tool_calls
const result = { role: 'tool', tool_name: call.name, content: scene.weather(call.arguments) }
const last = await ollama.chat({ model: clerk, messages: [...messages, first.message, result], tools: [scene.weatherTool] })

const thought = await ollama.chat({ model: scene.thinker, messages, think: true })
const formed = await ollama.chat({ model: small, messages, format: scene.animal, options: { num_predict: 60 } })
const { embeddings } = await ollama.embed({ model: scene.embedder, input: scene.kittens })
const prompt = async (more) => (await ollama.generate({ model: scene.eyes, prompt: 'What?', options, ...more })).prompt_eval_count

scene.tell({
  streams: said === whole.message.content && said !== '',
  calls: [call.name, call.arguments, last.message.content],
  thinking: [thought.message.thinking.trim(), thought.message.content],
  animal: scene.isAnimal(JSON.parse(formed.message.content)),
  sees: (await prompt({ images: [scene.png] })) > (await prompt({})) + 4,
  embedded: scene.isSensible(embeddings),
  models: (await ollama.list()).models.map((model) => model.name).includes(small),
})
