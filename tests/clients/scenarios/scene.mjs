// What every JavaScript scenario has in common: the same models, question and tool as in scene.py.
export const [url] = process.argv.slice(2)
export const v1 = `${url}/v1`
export const key = 'any'

export const small = 'smollm2:135m'
export const withTools = 'smol-tools'
export const clerk = 'clerk'
export const thinker = 'thinker'
export const eyes = 'tiny-vision'
export const embedder = 'all-minilm:22m'

export const question = 'How is the weather in Paris?'
export const messages = [{ role: 'user', content: question }]
export const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
export const weatherTool = { type: 'function', function: { name: 'get_weather', description: 'The weather', parameters } }
export const weather = ({ city }) => `rain in ${city}`

export const animal = {
  type: 'object',
  properties: { legs: { type: 'integer', minimum: 2, maximum: 8 }, furry: { type: 'boolean' } },
  required: ['legs', 'furry'],
  additionalProperties: false,
}
export const isAnimal = ({ legs, furry }) => legs >= 2 && legs <= 8 && typeof furry === 'boolean'

// A red PNG of 32 x 32.
export const png =
  'iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR4nGM4wcVFU8QwasGoBaMWjFowasGoBaMWjFowasGoBaMWDBULADz1cC6SmOgJAAAAAElFTkSuQmCC'

export const kittens = ['A cat sleeps on the sofa.', 'A kitten is asleep on the couch.', 'Taxes are due in May.']
const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0)
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
export const isSensible = ([cat, kitten, tax]) =>
  cat.length === 384 && cosine(cat, kitten) > 0.5 && cosine(cat, tax) < 0.5

export const gather = async (parts, textOf) => {
  let text = ''
  for await (const part of parts) text += textOf(part) ?? ''
  return text
}

// What the test compares, as one line of JSON at the end of the output.
export const tell = (facts) => console.log(JSON.stringify(facts))
