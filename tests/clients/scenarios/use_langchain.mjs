// LangChain.js: its Ollama model and embeddings.
import { HumanMessage, ToolMessage } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { ChatOllama, OllamaEmbeddings } from '@langchain/ollama'
import * as z from 'zod'
import * as scene from './scene.mjs'

const model = (name, more) => new ChatOllama({ model: name, baseUrl: scene.url, numPredict: 60, ...more })
const small = model(scene.small, { temperature: 0, numPredict: 12 })
const whole = await small.invoke(scene.question)
const said = await scene.gather(await small.stream(scene.question), (part) => part.content)

const weather = tool(scene.weather, {
  name: 'get_weather',
  description: 'The weather',
  schema: z.object({ city: z.string() }),
})
const clerk = model(scene.clerk).bindTools([weather])
const asked = new HumanMessage(scene.question)
const first = await clerk.invoke([asked])
const [call] = first.tool_calls
const result = await weather.invoke(call)
const last = await clerk.invoke([asked, first, result])
let streamed
for await (const part of await clerk.stream([asked])) streamed = streamed?.concat(part) ?? part

const Animal = z.object({ legs: z.number().int().min(2).max(8), furry: z.boolean() })
const formed = await model(scene.small).withStructuredOutput(Animal, { method: 'jsonSchema' }).invoke('Describe a dog.')
const thought = await model(scene.thinker, { think: true, numPredict: 400 }).invoke(scene.question)
const vectors = await new OllamaEmbeddings({ model: scene.embedder, baseUrl: scene.url }).embedDocuments(scene.kittens)
const count = async (content) => (await model(scene.eyes, { numPredict: 4 }).invoke([new HumanMessage({ content })])).usage_metadata.input_tokens
const text = { type: 'text', text: 'What is this?' }
const picture = { type: 'image_url', image_url: `data:image/png;base64,${scene.png}` }

scene.tell({
  streams: said === whole.content && said !== '',
  calls: [call.name, call.args, ToolMessage.isInstance(result), last.content],
  streamedCalls: streamed.tool_calls.map(({ name, args }) => [name, args]),
  animal: scene.isAnimal(formed),
  thinking: [thought.additional_kwargs.reasoning_content.trim(), thought.content],
  sees: (await count([text, picture])) > (await count([text])) + 4,
  embedded: scene.isSensible(vectors),
})
