// Runs a coding agent in an empty repository, without a terminal.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export { tell } from './scene.mjs'

export const runAgent = (name, args, env) => {
  const cwd = mkdtempSync(join(tmpdir(), 'agent-'))
  try {
    execFileSync('git', ['init', '-q'], { cwd })
    const command = join(import.meta.dirname, 'node_modules', '.bin', name)
    const options = { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' }
    const output = execFileSync(command, args, options)
    const file = join(cwd, 'answer.txt')
    return { output, written: existsSync(file) ? readFileSync(file, 'utf8') : '' }
  } finally {
    rmSync(cwd, { recursive: true })
  }
}
