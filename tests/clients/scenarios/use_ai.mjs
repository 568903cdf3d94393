// The AI SDK over ollama-ai-provider-v2.
import { embedMany, generateText, isStepCount, Output, stepCountIs, streamText, tool } from 'ai'
import { createOllama } from 'ollama-ai-provider-v2'
import * as z from 'zod'
import * as scene from './scene.mjs'

const ollama = createOllama({ baseURL: `${scene.url}/api` })
// The provider sends `maxOutputTokens` where Ollama has nothing of that name: limits are options of its own.
const limited = (options) => ({ providerOptions: { ollama: { options } } })
const calm = limited({ num_predict: 12, temperature: 0 })
const whole = await generateText({ model: ollama(scene.small), prompt: scene.question, ...calm })
const said = await scene.gather(streamText({ model: ollama(scene.small), prompt: scene.question, ...calm }).textStream, (text) => text)

const steps = (isStepCount ?? stepCountIs)(3)
const tools = {
  get_weather: tool({ description: 'The weather', inputSchema: z.object({ city: z.string() }), execute: scene.weather }),
}
const asking = { model: ollama(scene.clerk), prompt: scene.question, tools, stopWhen: steps }
const called = await generateText(asking)
const streamed = streamText(asking)
const answer = await scene.gather(streamed.textStream, (text) => text)

const schema = z.object({ legs: z.number().int().min(2).max(8), furry: z.boolean() })
const formed = await generateText({
  model: ollama(scene.small),
  output: Output.object({ schema }),
  prompt: 'Describe a dog.',
  ...limited({ num_predict: 100 }),
})
const think = { providerOptions: { ollama: { think: true } } }
const thought = await generateText({ model: ollama(scene.thinker), prompt: scene.question, ...think })
const { embeddings } = await embedMany({ model: ollama.embeddingModel(scene.embedder), values: scene.kittens })
const text = { type: 'text', text: 'What is this?' }
const picture = { type: 'file', data: scene.png, mediaType: 'image/png' }
const count = async (content) =>
  (await generateText({ model: ollama(scene.eyes), messages: [{ role: 'user', content }], ...calm })).usage.inputTokens

scene.tell({
  streams: said === whole.text && said !== '',
  calls: [called.steps[0].toolCalls[0].input, called.steps[0].toolResults[0].output, called.text],
  streamed: answer,
  animal: scene.isAnimal(formed.output),
  thinking: [thought.reasoningText.trim(), thought.text],
  sees: (await count([text, picture])) > (await count([text])) + 4,
  embedded: scene.isSensible(embeddings),
})
