// grpc-js (npm), unmodified, against `tenon serve`: grpc_js_test.js TENON MODELS_FOLDER
// The modules are in the folder that TENON_ENVIRONMENT names.
'use strict';
const path = require('path'), assert = require('assert'), {spawn} = require('child_process');
const root = path.join(__dirname, '../../..');
const inEnvironment = name => require(require.resolve(name, {paths: [process.env.TENON_ENVIRONMENT]}));
const grpc = inEnvironment('@grpc/grpc-js'), loader = inEnvironment('@grpc/proto-loader');
const protos = name => grpc.loadPackageDefinition(loader.loadSync(path.join(root, 'tenon/serve/proto', name), {keepCase: true, longs: Number}));

async function main(address) {
  const inference = protos('inference.proto').inference, health = protos('health.proto').grpc.health.v1;
  const client = new inference.GRPCInferenceService(address, grpc.credentials.createInsecure());
  const call = (who, method, message, options = {}) =>
      new Promise((done, fail) => who[method](message, options, (error, answer) => error ? fail(error) : done(answer)));
  assert.strictEqual((await call(client, 'ServerReady', {})).ready, true);
  assert.strictEqual((await call(new health.Health(address, grpc.credentials.createInsecure()), 'Check', {})).status, 1);
  const x = Buffer.from(new Float32Array([1, 2, 5]).buffer);
  const message = {model_name: 'm', inputs: [{name: 'x', datatype: 'FP32', shape: [3]}], raw_input_contents: [x]};
  const answer = await call(client, 'ModelInfer', message);
  const y = answer.raw_output_contents[0];
  assert.deepStrictEqual([0, 4, 8].map(i => y.readFloatLE(i)), [3.5, 4, 5.5]);
  const many = await Promise.all(Array.from({length: 200}, () => call(client, 'ModelInfer', message)));  // at once, on one connection
  assert.ok(many.every(a => a.raw_output_contents[0].equals(y)));
  const failing = async (m, o) => { try { await call(client, 'ModelInfer', m, o); } catch (e) { return e; } };
  assert.strictEqual((await failing({...message, model_name: 'other'})).code, grpc.status.NOT_FOUND);
  assert.strictEqual((await failing({...message, raw_input_contents: []})).code, grpc.status.INVALID_ARGUMENT);
  assert.strictEqual((await failing(message, {deadline: Date.now() - 1})).code, grpc.status.DEADLINE_EXCEEDED);
  const got = await new Promise((done, fail) => {
    const stream = client.ModelStreamInfer(), all = [];
    stream.on('data', a => all.push(a)).on('end', () => done(all)).on('error', fail);
    for (let i = 0; i < 5; ++i) stream.write(message);
    stream.end();
  });
  assert.strictEqual(got.length, 5);
  assert.ok(got.every(a => a.infer_response.raw_output_contents[0].equals(y)));
  const watched = await new Promise((done, fail) => {
    const stream = new health.Health(address, grpc.credentials.createInsecure()).Watch({service: 'PredictionService'});
    stream.on('data', a => { done(a.status); stream.cancel(); }).on('error', fail);
  });
  assert.ok(watched === 1 || watched === 'SERVING', watched);
  const metadata = await call(client, 'ModelMetadata', {name: 'm'});
  assert.deepStrictEqual(metadata.inputs.map(i => [i.name, i.datatype, i.shape]), [['x', 'FP32', [-1]]]);
  console.log('grpc-js: ok');
}

const server = spawn(process.argv[2], ['serve', '--model', `m=${process.argv[3]}/half_plus_two`, '--free-ports', '--address', '127.0.0.1'],
                     {stdio: ['ignore', 'pipe', 'ignore']});
let text = '';
server.stdout.on('data', piece => {
  const before = text.includes('\nready');
  text += piece;
  if (before || !text.includes('\nready')) return;
  const address = /\(v2\), gRPC +(\S+)/.exec(text)[1];
  main(address).then(() => 0, error => { console.error(error); return 1; }).then(code => { server.kill(); process.exit(code); });
});
