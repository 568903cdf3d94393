// OpenAI's JavaScript client: chat completions, Responses, embeddings.
import OpenAI from 'openai'
import * as scene from './scene.mjs'

const client = new OpenAI({ baseURL: scene.v1, apiKey: scene.key })
const { messages, small, clerk } = scene
const tools = [scene.weatherTool]

const limits = { model: small, messages, max_tokens: 12, temperature: 0 }
const whole = await client.chat.completions.create(limits)
const parts = await client.chat.completions.create({ ...limits, stream: true })
const said = await scene.gather(parts, (part) => part.choices[0]?.delta.content)

const runnable = { ...scene.weatherTool.function, parse: JSON.parse, function: scene.weather }
const callAndAnswer = async (stream) => {
  const asking = { model: clerk, messages, tools: [{ type: 'function', function: runnable }], stream }
  const runner = client.chat.completions.runTools(asking)
  const answer = await runner.finalContent()
  const [call] = runner.messages.flatMap((message) => message.tool_calls ?? []).map((call) => call.function)
  return [call.name, JSON.parse(call.arguments), answer]
}

const flat = { type: 'function', ...scene.weatherTool.function, strict: false }
const first = await client.responses.create({ model: clerk, input: messages, tools: [flat] })
const call = first.output.find((item) => item.type === 'function_call')
const output = { type: 'function_call_output', call_id: call.call_id, output: scene.weather(JSON.parse(call.arguments)) }
const stream = client.responses.stream({ model: clerk, input: [output], tools: [flat], previous_response_id: first.id })
const last = await stream.finalResponse()

const format = { type: 'json_schema', json_schema: { name: 'animal', schema: scene.animal, strict: true } }
const formed = await client.chat.completions.create({ model: small, messages, response_format: format })
const embedded = await client.embeddings.create({ model: scene.embedder, input: scene.kittens })
const refused = await client.models.retrieve('nobody').catch((error) => [error.constructor.name, error.code])

scene.tell({
  streams: said === whole.choices[0].message.content && said !== '',
  calls: [await callAndAnswer(false), await callAndAnswer(true)],
  responses: [call.name, last.output_text],
  animal: scene.isAnimal(JSON.parse(formed.choices[0].message.content)),
  embedded: scene.isSensible(embedded.data.map((each) => each.embedding)),
  refused,
})
